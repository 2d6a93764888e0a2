//! Secrets that AWS keeps: parameters of Systems Manager, and of Secrets Manager. They are read with the manager's own
//! credentials, in its own region; another region is named by an ARN.

use serde_json::json;

use super::client::{Client, Service};
use super::fault::Fault;
use super::session::Session;
use super::settings::{Settings, is_region};

const SSM: Service = Service { name: "Systems Manager", id: "ssm" };
const SECRETS: Service = Service { name: "Secrets Manager", id: "secretsmanager" };

/// `{ ssm = "/fim/smtp" }`: its value, decrypted. Needs ssm:GetParameter, and kms:Decrypt where the key is not AWS's own.
pub async fn ssm(name: &str) -> Result<String, Fault> {
    let client = client(name, SSM)?;
    let body = json!({ "Name": name, "WithDecryption": true });
    let answer = client.json("1.1", "AmazonSSM.GetParameter", &body).await?;
    let value = answer["Parameter"]["Value"].as_str();
    value.map(str::to_owned).ok_or_else(|| Fault::Foreign { service: SSM.name, why: "there is no value".into() })
}

/// `{ secretsmanager = "fim/smtp" }`: its present text. Needs secretsmanager:GetSecretValue.
pub async fn secrets_manager(name: &str) -> Result<String, Fault> {
    let client = client(name, SECRETS)?;
    let body = json!({ "SecretId": name });
    let answer = client.json("1.1", "secretsmanager.GetSecretValue", &body).await?;
    let value = answer["SecretString"].as_str();
    value
        .map(str::to_owned)
        .ok_or_else(|| Fault::Foreign { service: SECRETS.name, why: "the secret is not a text".into() })
}

fn client(name: &str, service: Service) -> Result<Client, Fault> {
    // arn:aws:ssm:REGION:ACCOUNT:parameter/NAME
    let region = name.strip_prefix("arn:").and_then(|rest| rest.split(':').nth(2)).filter(|region| is_region(region));
    let settings = Settings { region: region.map(str::to_owned), ..Settings::default() };
    Ok(Client::new(Session::new(settings)?.into(), service))
}
