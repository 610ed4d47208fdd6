/* tests/fuzz/replay.c - a fuzzer's corpus once again, for builds without a fuzzer.
 *
 *     fuzz_X FILE_OR_FOLDER...
 *
 * Each file's name is printed before it is run: the last one is the one that fails. */
#include <dirent.h>
#include <limits.h>
#include <sys/stat.h>

#include "fuzz.h"

static int runs;

static void run_file(const char *path, size_t bytes)
{
    unsigned char *data = malloc(bytes); /* no longer than that: a sanitizer sees what is read behind it */
    FILE *f = fopen(path, "rb");
    if (!f || !data || fread(data, 1, bytes, f) != bytes) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    fclose(f);
    printf("%s\n", path);
    fflush(stdout);
    (void)LLVMFuzzerTestOneInput(data, bytes);
    free(data);
    runs++;
}

static void run(const char *path);

static void run_folder(const char *path)
{
    struct dirent **names;
    char whole[PATH_MAX];
    int n = scandir(path, &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        snprintf(whole, sizeof whole, "%s/%s", path, names[i]->d_name);
        if (names[i]->d_name[0] != '.')
            run(whole);
        free(names[i]);
    }
    if (n >= 0)
        free(names);
}

static void run(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    if (S_ISDIR(st.st_mode))
        run_folder(path);
    else
        run_file(path, (size_t)st.st_size);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        run(argv[i]);
    printf("%d inputs\n", runs);
    return runs > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
