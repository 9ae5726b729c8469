/* What the documents say exists, exists. */
#include "tests/common/source_tree.h"
#include "tests/common/testing.h"

#include "base/buffer.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct promise {
    char *known; /* what exists: names between newlines */
    size_t broken;
    size_t checked;
} promise;

static bool is_known(const promise *p, const char *name)
{
    char line[512];
    snprintf(line, sizeof line, "\n%s\n", name);
    return strstr(p->known, line) != NULL;
}

static void know(buffer *names, const char *name, size_t length)
{
    ck_assert(buffer_append(names, name, length));
    ck_assert(buffer_append(names, "\n", 1));
}

static char *known_end(buffer *names)
{
    ck_assert(buffer_append(names, "", 1));
    return (char *)names->data;
}

/* --- make targets */

static void note_targets(void *context, const char *path, char *content)
{
    (void)path;
    for (char *line; (line = source_tree_line(&content)) != NULL;) {
        char *names = text_begins(line, ".PHONY: ") ? line + strlen(".PHONY: ") : NULL;
        for (char *name = names == NULL ? NULL : strtok(names, " "); name != NULL; name = strtok(NULL, " "))
            know(context, name, strlen(name));
    }
}

/* "make demo KEEP=1" in a code block or between backticks; prose is left alone. */
static void check_command(promise *p, const char *path, const char *command)
{
    char word[256];
    for (const char *at = command; *at == ' ';) {
        at += strspn(at, " ");
        size_t length = strcspn(at, " `\n#&|;()");
        if (length == 0 || length >= sizeof word)
            return;
        snprintf(word, sizeof word, "%.*s", (int)length, at);
        at += length;
        if (strchr(word, '=') != NULL || word[0] == '-' || strchr(word, '/') != NULL)
            continue;
        p->checked++;
        if (!is_known(p, word))
            source_tree_complain(&p->broken, "%s: there is no \"make %s\"", path, word);
    }
}

static void check_targets(void *context, const char *path, char *content)
{
    bool code = false;
    for (char *line; (line = source_tree_line(&content)) != NULL;) {
        if (text_begins(line, "```")) {
            code = !code;
            continue;
        }
        if (code && text_begins(line, "make "))
            check_command(context, path, line + strlen("make"));
        for (char *at = line; !code && (at = strstr(at, "`make ")) != NULL; at++) {
            char *end = strchr(at + 1, '`');
            if (end != NULL)
                check_command(context, path, at + strlen("`make"));
        }
    }
}

START_TEST(every_make_target_that_a_document_names_exists)
{
    static const char *const makefiles[] = {"Makefile", ".mk", NULL}, *const documents[] = {".md", NULL};
    buffer names = {0};
    know(&names, "", 0);
    source_tree_visit(makefiles, note_targets, &names);
    promise p = {.known = known_end(&names)};
    source_tree_visit(documents, check_targets, &p);
    ck_assert_uint_eq(p.broken, 0);
    ck_assert_uint_gt(p.checked, 3);
    buffer_free(&names);
}
END_TEST

/* --- links */

static void check_links(void *context, const char *path, char *content)
{
    promise *p = context;
    char folder[256], target[512];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    *(slash == NULL ? folder : slash + 1) = '\0';
    for (char *at = content; (at = strstr(at, "](")) != NULL; at += 2) {
        size_t length = strcspn(at + 2, ")#\n");
        if (length == 0 || strstr(at, "://") == at + 2 + strcspn(at + 2, ":)"))
            continue;
        snprintf(target, sizeof target, "%s%.*s", folder, (int)length, at + 2);
        char full[1024];
        const char *root = getenv("SEMD_ROOT");
        snprintf(full, sizeof full, "%s/%s", root != NULL ? root : ".", target);
        FILE *file = fopen(full, "r");
        if (file == NULL)
            source_tree_complain(&p->broken, "%s links to %s, which is missing", path, target);
        else
            fclose(file);
        p->checked++;
    }
}

START_TEST(every_link_between_documents_leads_somewhere)
{
    static const char *const documents[] = {".md", NULL};
    promise p = {0};
    source_tree_visit(documents, check_links, &p);
    ck_assert_uint_eq(p.broken, 0);
    ck_assert_uint_gt(p.checked, 0);
}
END_TEST

/* --- configuration keys */

/* "#key = value" and "key = value" below "[section]". Returns a key a line as section.key. */
static char *configuration_keys(buffer *names, size_t *twice)
{
    char *content = source_tree_read("conf/semd.conf"), *rest = content, section[64] = "";
    know(names, "", 0);
    for (char *line; (line = source_tree_line(&rest)) != NULL;) {
        char name[256];
        if (*line == '[') {
            snprintf(section, sizeof section, "%.*s", (int)strcspn(line + 1, "]"), line + 1);
            continue;
        }
        const char *key = *line == '#' ? line + 1 : line;
        size_t length = 0;
        while (islower((unsigned char)key[length]) || isdigit((unsigned char)key[length]) || key[length] == '_')
            length++;
        if (length == 0 || strncmp(key + length, " =", 2) != 0)
            continue;
        snprintf(name, sizeof name, "%s.%.*s", section, (int)length, key);
        char found[300];
        snprintf(found, sizeof found, "\n%s\n", name);
        ck_assert(buffer_append(names, "", 1));
        names->size--;
        if (strstr((char *)names->data, found) != NULL)
            source_tree_complain(twice, "conf/semd.conf holds %s twice", name);
        know(names, name, strlen(name));
    }
    free(content);
    return known_end(names);
}

static bool is_section(const promise *p, const char *name)
{
    char begin[80];
    snprintf(begin, sizeof begin, "\n%s.", name);
    return strstr(p->known, begin) != NULL;
}

/* `section.key` between backticks, or after -o, where the section is one of ours. */
static void check_key(promise *p, const char *path, const char *at)
{
    char section[64], name[256];
    size_t length = strspn(at, "abcdefghijklmnopqrstuvwxyz_");
    if (length == 0 || length >= sizeof section || at[length] != '.')
        return;
    size_t key = strspn(at + length + 1, "abcdefghijklmnopqrstuvwxyz0123456789_");
    const char *end = at + length + 1 + key;
    bool method = key > 0 && *end == '`' && (text_begins(at, "index.export") || text_begins(at, "events.erase"));
    if (key == 0 || method || (*end != '`' && *end != '=' && *end != ' ' && *end != '"'))
        return;
    snprintf(section, sizeof section, "%.*s", (int)length, at);
    snprintf(name, sizeof name, "%.*s", (int)(length + 1 + key), at);
    bool file = strcmp(at + length + 1, "c") == 0 || text_begins(name, "model.load") ||
                text_begins(name, "model.safetensors");
    if (file || !is_section(p, section))
        return;
    p->checked++;
    if (!is_known(p, name))
        source_tree_complain(&p->broken, "%s names %s, which is not in conf/semd.conf", path, name);
}

static void check_keys(void *context, const char *path, char *content)
{
    for (char *at = content; (at = strchr(at, '`')) != NULL; at++)
        check_key(context, path, at + 1);
    for (char *at = content; (at = strstr(at, "-o ")) != NULL; at++)
        check_key(context, path, at + 3);
}

START_TEST(every_configuration_key_that_a_document_names_is_in_the_configuration)
{
    static const char *const documents[] = {".md", ".sh", ".1", ".5", ".8", NULL};
    buffer names = {0};
    char *content = source_tree_read("conf/semd.conf");
    if (content == NULL) {
        fprintf(stderr, "skipped: conf/semd.conf is missing\n");
        return;
    }
    free(content);
    promise p = {0};
    p.known = configuration_keys(&names, &p.broken);
    source_tree_visit(documents, check_keys, &p);
    ck_assert_uint_eq(p.broken, 0);
    ck_assert_uint_gt(names.size, 100);
    buffer_free(&names);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("documents");
    TCase *tests = tcase_create("promises");
    tcase_add_test(tests, every_make_target_that_a_document_names_exists);
    tcase_add_test(tests, every_link_between_documents_leads_somewhere);
    tcase_add_test(tests, every_configuration_key_that_a_document_names_is_in_the_configuration);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
