// Writes its own name for the file into the file, and ends at once: the shortest life that a change can have.
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int file = open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (argc < 2 || file < 0 || write(file, argv[1], strlen(argv[1])) < 0)
		_exit(1);
	_exit(0);
}
