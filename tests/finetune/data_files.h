/* Files of training data for tests, in the test's own folder. */
#ifndef SEM_TESTS_FINETUNE_DATA_FILES_H
#define SEM_TESTS_FINETUNE_DATA_FILES_H

#include "tests/common/testing.h"

#include <zlib.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The path of a file of that name; static buffers, eight of them in turn. */
static inline const char *data_file_path(const char *name)
{
    static char paths[8][512];
    static size_t next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", testing_folder(), name);
    return path;
}

static inline const char *data_file_write(const char *name, const char *content, size_t size)
{
    const char *path = data_file_path(name);
    if (strlen(name) > 3 && strcmp(name + strlen(name) - 3, ".gz") == 0) {
        gzFile out = gzopen(path, "wb");
        ck_assert_ptr_nonnull(out);
        ck_assert_int_eq(gzwrite(out, content, (unsigned)size), (int)size);
        ck_assert_int_eq(gzclose(out), Z_OK);
        return path;
    }
    FILE *out = fopen(path, "wb");
    ck_assert_ptr_nonnull(out);
    ck_assert_uint_eq(fwrite(content, 1, size, out), size);
    ck_assert_int_eq(fclose(out), 0);
    return path;
}

static inline const char *data_file(const char *name, const char *content)
{
    return data_file_write(name, content, strlen(content));
}

/* count lines, each printf(format, number from 0). */
static inline const char *data_file_of(const char *name, const char *format, size_t count)
{
    char *text = malloc(count * 256), *at = text;
    ck_assert_ptr_nonnull(text);
    for (size_t i = 0; i < count; i++) {
        char number[32];
        snprintf(number, sizeof number, "%zu", i);
        for (const char *f = format; *f != '\0'; f++)
            at += *f == '#' ? sprintf(at, "%s", number) : sprintf(at, "%c", *f);
        *at++ = '\n';
    }
    const char *path = data_file_write(name, text, (size_t)(at - text));
    free(text);
    return path;
}

#endif
