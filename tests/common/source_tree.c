#include "tests/common/source_tree.h"

#include "tests/common/testing.h"

#include "base/files.h"

#include <fts.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SOURCE_BYTES_MAX = 16 << 20 };

static const char *project_root(void)
{
    const char *given = getenv("SEMD_ROOT");
    return given != NULL ? given : ".";
}

bool text_begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

bool text_ends(const char *text, const char *with)
{
    size_t length = strlen(text), end = strlen(with);
    return length >= end && strcmp(text + length - end, with) == 0;
}

void source_tree_complain(void *count, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    ++*(size_t *)count;
}

char *source_tree_read(const char *path)
{
    sem_error error = {0};
    char full[FILES_PATH_MAX], *content;
    size_t size;
    ck_ok(files_join(full, &error, "%s/%s", project_root(), path));
    return files_read(full, SOURCE_BYTES_MAX, &content, &size, &error) == SEM_OK ? content : NULL;
}

char *source_tree_line(char **text)
{
    char *line = *text;
    if (line == NULL || *line == '\0')
        return NULL;
    char *end = strchr(line, '\n');
    *text = end == NULL ? line + strlen(line) : end + 1;
    if (end != NULL)
        *end = '\0';
    return line;
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static bool is_left_out(const FTSENT *entry)
{
    return entry->fts_level > 0 && entry->fts_info == FTS_D &&
           (entry->fts_name[0] == '.' || (entry->fts_level == 1 && strcmp(entry->fts_name, "build") == 0));
}

static bool has_suffix(const char *name, const char *const *suffixes)
{
    for (; *suffixes != NULL; suffixes++)
        if (text_ends(name, *suffixes))
            return true;
    return false;
}

size_t source_tree_visit(const char *const *suffixes, void (*visit)(void *context, const char *path, char *content),
                         void *context)
{
    char root[FILES_PATH_MAX];
    snprintf(root, sizeof root, "%s", project_root());
    char *roots[2] = {root, NULL};
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
    ck_assert_ptr_nonnull(walk);
    size_t count = 0;
    for (FTSENT *entry; (entry = fts_read(walk)) != NULL;) {
        if (is_left_out(entry)) {
            fts_set(walk, entry, FTS_SKIP);
            continue;
        }
        if (entry->fts_info != FTS_F || !has_suffix(entry->fts_name, suffixes))
            continue;
        const char *path = entry->fts_path + strlen(root) + 1;
        char *content = source_tree_read(path);
        ck_assert_msg(content != NULL, "cannot read %s", path);
        visit(context, path, content);
        free(content);
        count++;
    }
    fts_close(walk);
    return count;
}
