/* tests/fuzz/fuzz_path.c - where a program may lie: PATH, as os/process.c takes it apart.
 *
 *     NAME             of the program
 *     PATH             the variable; without this line there is none
 *
 * Holds     the paths are those of a second reader, in its order; an empty folder is where the caller is; a name with a
 *           slash is a path already.
 *
 * It is compiled into this program, where the environment is what the input says. */
#include "fuzz.h"

static char *path_variable;

static char *given_variable(const char *name)
{
    HOLDS(strcmp(name, "PATH") == 0);
    return path_variable;
}

#include <stdlib.h>
#define getenv given_variable
#include "os/process.c"

static void check(const char *name)
{
    const char *folders = path_variable ? path_variable : "/usr/local/bin:/bin:/usr/bin";
    char **list = candidates_of(name), *right = malloc(strlen(folders) + strlen(name) + 2);
    size_t n = 0;
    bool last = false;
    if (memchr(name, '/', strlen(name))) {
        HOLDS(strcmp(list[n++], name) == 0);
    } else {
        for (const char *at = folders; !last; at++) {
            size_t k = 0;
            while (*at && *at != ':')
                right[k++] = *at++;
            last = *at == 0;
            if (k > 0)
                right[k++] = '/';
            strcpy(right + k, name);
            HOLDS(list[n] && strcmp(list[n], right) == 0);
            n++;
        }
    }
    HOLDS(list[n] == NULL);
    free(right);
    weft__mem_free(list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct input in = { data, bytes };
    char *name = text_of(next_line(&in));
    path_variable = in.left > 0 ? text_of(in) : NULL;
    check(name);
    free(path_variable);
    free(name);
    return 0;
}
