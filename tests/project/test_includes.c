/* The order of includes, and which folder may know which. */
#include "tests/common/source_tree.h"
#include "tests/common/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In dependency order. */
static const char *const FOLDERS[] = {"base",   "model", "index", "finetune", "proto",
                                      "daemon", "tools", "bench", "tests"};
enum { BASE, MODEL, INDEX, FINETUNE, PROTO, DAEMON, TOOLS, BENCH, TESTS, FOLDER_COUNT };

static const char *const LIBRARIES[] = {"cblas", "check",   "event2/",   "faiss/",   "ini.h",    "jansson",
                                        "lmdb",  "msgpack", "openblas_", "systemd/", "utf8proc", "zlib.h"};

static const char *const C_SUFFIXES[] = {".c", ".h", ".cpp", NULL};

/* FOLDER_COUNT for a path in none of them. */
static int folder_of(const char *path)
{
    for (int i = 0; i < FOLDER_COUNT; i++)
        if (text_begins(path, FOLDERS[i]) && path[strlen(FOLDERS[i])] == '/')
            return i;
    return FOLDER_COUNT;
}

/* A test belongs to the folder that it tests. */
static int tested_folder(const char *path)
{
    int folder = folder_of(path);
    return folder != TESTS ? folder : folder_of(path + strlen("tests/"));
}

static bool may_know(int folder, int other)
{
    switch (folder) {
    case BASE: return other == BASE;
    case PROTO: return other == BASE || other == PROTO;
    case TOOLS: return other == BASE || other == INDEX || other == PROTO || other == TOOLS;
    case MODEL:
    case INDEX:
    case FINETUNE: return other <= folder;
    case DAEMON: return other <= DAEMON;
    default: return other <= folder;
    }
}

static bool is_library(const char *header)
{
    for (size_t i = 0; i < sizeof LIBRARIES / sizeof *LIBRARIES; i++)
        if (text_begins(header, LIBRARIES[i]))
            return true;
    return false;
}

/* One include: the name in its quotes or brackets; NULL if the line is none. */
static char *included(char *line, bool *ours)
{
    if (!text_begins(line, "#include "))
        return NULL;
    char *name = line + strlen("#include ");
    *ours = *name == '"';
    name++;
    name[strcspn(name, "\">")] = '\0';
    return name;
}

static void check_folders(void *context, const char *path, char *content)
{
    bool ours;
    int folder = tested_folder(path);
    for (char *line; (line = source_tree_line(&content)) != NULL;) {
        const char *name = included(line, &ours);
        if (name == NULL || !ours)
            continue;
        int other = folder_of(name);
        bool test_help = folder_of(path) == TESTS && other == TESTS;
        if (other == FOLDER_COUNT)
            source_tree_complain(context, "%s includes \"%s\": name it by its path from the root", path, name);
        /* semtrain is the daemon's training without the daemon. */
        else if (!test_help && folder < TESTS && !may_know(folder, other) && strstr(path, "tools/semtrain") == NULL &&
                 strstr(path, "tools/test_semtrain") == NULL)
            source_tree_complain(context, "%s may not include \"%s\"", path, name);
    }
}

START_TEST(no_folder_knows_one_to_its_right)
{
    size_t broken = 0;
    ck_assert_uint_gt(source_tree_visit(C_SUFFIXES, check_folders, &broken), 10);
    ck_assert_uint_eq(broken, 0);
}
END_TEST

/* The header beside a source: "base/log.h" for "base/log.c"; "" if there is none. */
static void own_header(const char *path, char out[256])
{
    snprintf(out, 256, "%s", path);
    char *dot = strrchr(out, '.');
    ck_assert_ptr_nonnull(dot);
    strcpy(dot, ".h");
    char *content = text_ends(path, ".h") ? NULL : source_tree_read(out);
    if (content == NULL)
        out[0] = '\0';
    free(content);
}

static void check_order(void *context, const char *path, char *content)
{
    enum { OURS, LIBRARY, C };
    char own[256];
    bool ours, first = true;
    int group = OURS, folder = BASE;
    own_header(path, own);
    for (char *line; (line = source_tree_line(&content)) != NULL;) {
        /* What a file includes after its own definitions is a body that uses them. */
        if (text_begins(line, "#define ") && text_ends(path, ".c"))
            return;
        const char *name = included(line, &ours);
        if (name == NULL)
            continue;
        /* A file may get its own header through another: store.c through store_internal.h. */
        if (!first && ours && strcmp(name, own) == 0)
            source_tree_complain(context, "%s does not include its own header first", path);
        int now = ours ? OURS : is_library(name) ? LIBRARY : C;
        if (now < group)
            source_tree_complain(context, "%s: %s stands too late: ours, then libraries, then C", path, name);
        group = now;
        /* The first header of the file's own folder may be that of the module it is part of. */
        bool of_module = first && folder_of(name) == folder_of(path);
        first = false;
        /* proto stands beside the others: no place in their order. */
        if (!ours || of_module || folder_of(path) == TESTS || folder_of(name) == PROTO)
            continue;
        if (folder_of(name) < folder)
            source_tree_complain(context, "%s: \"%s\" stands too late: dependency order", path, name);
        folder = folder_of(name);
    }
}

START_TEST(own_header_first_then_ours_then_libraries_then_c)
{
    size_t broken = 0;
    source_tree_visit(C_SUFFIXES, check_order, &broken);
    ck_assert_uint_eq(broken, 0);
}
END_TEST

static void check_guard(void *context, const char *path, char *content)
{
    char guard[256];
    /* A body is included more than once, on purpose, or says why it needs none. */
    if (text_ends(path, "_body.h") || strstr(content, "no include guard") != NULL)
        return;
    int n = snprintf(guard, sizeof guard, "#ifndef SEM_%s\n", path);
    ck_assert_int_lt(n, (int)sizeof guard);
    for (char *c = guard + strlen("#ifndef "); *c != '\n'; c++)
        *c = *c == '/' || *c == '.' || *c == '-' ? '_' : (char)(*c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c);
    if (strstr(content, guard) == NULL)
        source_tree_complain(context, "%s has no guard named after its path (%.*s)", path, n - 1, guard);
}

START_TEST(every_header_has_a_guard_named_after_its_path)
{
    static const char *const headers[] = {".h", NULL};
    size_t broken = 0;
    ck_assert_uint_gt(source_tree_visit(headers, check_guard, &broken), 5);
    ck_assert_uint_eq(broken, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("includes");
    TCase *tests = tcase_create("order");
    tcase_add_test(tests, no_folder_knows_one_to_its_right);
    tcase_add_test(tests, own_header_first_then_ours_then_libraries_then_c);
    tcase_add_test(tests, every_header_has_a_guard_named_after_its_path);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
