/* folders.h - a folder of a test's own, with all that is in it, goes. */
#ifndef WEFT_TESTS_FOLDERS_H
#define WEFT_TESTS_FOLDERS_H

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        char whole[PATH_MAX];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(whole, sizeof whole, "%s/%s", path, e->d_name);
        if (unlink(whole) < 0)
            remove_tree(whole);
    }
    if (d)
        closedir(d);
    rmdir(path);
}

#endif
