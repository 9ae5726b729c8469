/* Exports of an index: where they may go, what they hold, and that Python's faiss finds
 * in them what semd finds. */
#include "tests/daemon/faiss_box.h"

#include <dirent.h>
#include <sys/stat.h>

enum { QUERIES = 40, NPROBE = 5 };

static char export_option[FILES_PATH_MAX + 64];

static bool start(faiss_box *w, const char *engine, const char *type)
{
    snprintf(export_option, sizeof export_option, "storage.export_dir=%s", testing_folder());
    const char *const options[] = {export_option, engine, type};
    return faiss_box_start(w, options, 3);
}

static bool run(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* True if the shell command ended with 0; its output is in the test's log. */
static bool run(const char *format, ...)
{
    char command[4 * FILES_PATH_MAX];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(command, sizeof command, format, args);
    va_end(args);
    ck_assert_int_lt(n, (int)sizeof command);
    fflush(NULL);
    int status = system(command);
    return status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* A Python that has faiss-cpu; made once. NULL where pip reaches no index. */
static const char *python_with_faiss(void)
{
    static char python[FILES_PATH_MAX];
    const char *root = getenv("SEMD_ROOT"), *given = getenv("PYTHON");
    static const char *const venvs[] = {"ann", "faiss"};
    root = root != NULL ? root : ".";
    for (size_t i = 0; i < 2; i++) {
        snprintf(python, sizeof python, "%s/build/venv/%s/bin/python", root, venvs[i]);
        if (run("'%s' -c 'import faiss, numpy' 2>/dev/null", python))
            return python;
    }
    if (run("mkdir -p '%s/build/venv' && '%s' -m venv '%s/build/venv/faiss'", root,
            given != NULL && *given != '\0' ? given : "python3", root) &&
        run("timeout 120 '%s' -m pip install -q --disable-pip-version-check --retries 1 faiss-cpu numpy", python))
        return python;
    printf("skipped: pip could not install faiss-cpu\n");
    return NULL;
}

/* Searches, and writes queries and hits down for Python. extra as of search(). */
static void write_hits(faiss_box *w, const char *extra)
{
    char path[FILES_PATH_MAX];
    snprintf(path, sizeof path, "%s/queries.f32", testing_folder());
    FILE *queries = fopen(path, "wb");
    snprintf(path, sizeof path, "%s/hits.txt", testing_folder());
    FILE *found = fopen(path, "w");
    ck_assert(queries != NULL && found != NULL);
    for (unsigned i = 0; i < QUERIES; i++) {
        const float *query = w->vectors + (size_t)i * 61 * DIM;
        const msgpack_object *hits = object_get(search(w, "search", query, extra, NPROBE, false), "hits");
        ck_assert_uint_eq(box_count(hits), K);
        ck_assert_uint_eq(fwrite(query, sizeof *query, DIM, queries), DIM);
        for (size_t h = 0; h < K; h++)
            fprintf(found, "%u ", (unsigned)object_uint(object_get(box_at(hits, h), "id"), DOCS));
        fprintf(found, "\n");
    }
    ck_assert_int_eq(fclose(queries), 0);
    ck_assert_int_eq(fclose(found), 0);
}

static void check_in_python(const char *file, unsigned nprobe, bool order)
{
    const char *python = python_with_faiss(), *root = getenv("SEMD_ROOT");
    if (python == NULL)
        return;
    ck_assert_msg(run("'%s' '%s/tests/python/check_export.py' '%s/%s' '%s/queries.f32' '%s/hits.txt' %d %d %u %s 2>&1",
                      python, root != NULL ? root : ".", testing_folder(), file, testing_folder(), testing_folder(),
                      DIM, K, nprobe, order ? "--order" : ""),
                  "check_export.py: see above");
}

static size_t size_of(const char *name)
{
    char path[FILES_PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", testing_folder(), name);
    return stat(path, &st) == 0 ? (size_t)st.st_size : 0;
}

static void check_export(faiss_box *w, const char *file)
{
    const msgpack_object *result = box_call(&w->b, "index.export", "{'collection': 'ext', 'path': '%s'}", file);
    ck_assert_uint_gt(size_of(file), DIM * DOCS / 2);
    ck_assert_uint_eq(object_uint(object_get(result, "bytes"), 0), size_of(file));
}

/* What lies in the folder besides the daemon's own: files whose name begins so. */
static size_t files_named(const char *prefix)
{
    size_t count = 0;
    DIR *folder = opendir(testing_folder());
    ck_assert_ptr_nonnull(folder);
    for (struct dirent *e; (e = readdir(folder)) != NULL;)
        count += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
    closedir(folder);
    return count;
}

static void finish(faiss_box *w)
{
    ck_assert_uint_eq(files_named("~"), 0);
    box_stop(&w->b);
    free(w->vectors);
}

static void check_engine(const char *codes, bool order)
{
    char option[64];
    faiss_box w;
    snprintf(option, sizeof option, "index.faiss_type=%s", codes);
    if (!start(&w, "index.engine=faiss", option))
        return;
    for (unsigned i = 0; i < DOCS / 2; i += BATCH)
        upsert(&w, i, BATCH);
    wait_for_lists(&w, "faiss", codes);
    for (unsigned i = DOCS / 2; i < DOCS; i += BATCH)
        upsert(&w, i, BATCH);
    delete_some(&w);
    write_hits(&w, "nprobe");
    check_export(&w, "engine.faiss");
    check_in_python("engine.faiss", NPROBE, order);
    finish(&w);
}

/* semd orders hits by their floats, FAISS by its codes: the same hits. */
START_TEST(python_finds_what_the_engine_faiss_finds_with_sq8)
{
    check_engine("IVF,SQ8", false);
}
END_TEST

START_TEST(python_finds_what_the_engine_faiss_finds_with_flat)
{
    check_engine("IVF,Flat", true);
}
END_TEST

START_TEST(our_own_lists_are_exported_with_every_vector)
{
    faiss_box w;
    if (!start(&w, "index.engine=semd", "index.faiss_type=IVF,Flat"))
        return;
    for (unsigned i = 0; i < DOCS; i += BATCH)
        upsert(&w, i, BATCH);
    wait_for_lists(&w, "ivf", "1-bit, 4-bit, float32");
    delete_some(&w);
    write_hits(&w, "exact");
    check_export(&w, "ours.faiss");
    check_in_python("ours.faiss", DOCS, true); /* more cells than there are: all */
    finish(&w);
}
END_TEST

START_TEST(what_has_no_lists_is_exported_flat)
{
    faiss_box w;
    if (!start(&w, "index.engine=semd", "index.exact_below=100000"))
        return;
    for (unsigned i = 0; i < DOCS; i += BATCH)
        upsert(&w, i, BATCH);
    delete_some(&w);
    write_hits(&w, "exact");
    check_export(&w, "flat.faiss");
    check_in_python("flat.faiss", 0, true);
    finish(&w);
}
END_TEST

static bool says(const char *message, const char *text)
{
    if (strstr(message, text) == NULL)
        printf("no \"%s\" in: %s\n", text, message);
    return strstr(message, text) != NULL;
}

START_TEST(an_export_goes_where_it_may_and_over_no_file)
{
    faiss_box w;
    if (!start(&w, "index.engine=semd", "index.faiss_type=IVF,SQ8"))
        return;
    upsert(&w, 0, BATCH);
    box *b = &w.b;
    box_call(b, "index.export", "{'collection': 'ext', 'path': '%s/absolute.faiss'}", testing_folder());
    ck_assert_uint_gt(size_of("absolute.faiss"), 0);
    ck_assert_uint_gt(size_of("absolute.faiss.ids.jsonl"), 0);
    static const char *const outside[] = {"/tmp/semd-test-outside.faiss", "../outside.faiss", "data/../../x.faiss"};
    for (size_t i = 0; i < 3; i++)
        ck_assert(
            says(box_fails(b, "INVALID_ARGUMENT", "index.export", "{'collection': 'ext', 'path': '%s'}", outside[i]),
                 "storage.export_dir"));
    ck_assert(says(box_fails(b, "INVALID_ARGUMENT", "index.export", "{'collection': 'ext', 'path': 'none/x'}"),
                   "there is no folder"));
    ck_assert(says(box_fails(b, "INVALID_ARGUMENT", "index.export", "{'collection': 'ext', 'path': '.'}"), "path"));
    ck_assert(says(box_fails(b, "INVALID_ARGUMENT", "index.export", "{'collection': 'ext', 'path': '~x'}"), "path"));
    ck_assert(says(box_fails(b, "INVALID_ARGUMENT", "index.export", "{'collection': 'ext', 'path': '%0300d'}", 0),
                   "too long"));
    ck_assert(says(box_fails(b, "FAILED_PRECONDITION", "index.export", "{'collection': 'ext', 'path': 'data/x'}"),
                   "storage.path"));
    ck_assert(says(box_fails(b, "NOT_FOUND", "index.export", "{'collection': 'none', 'path': 'none'}"), "none"));
    size_t size = size_of("absolute.faiss");
    ck_assert(says(box_fails(b, "ALREADY_EXISTS", "index.export", "{'collection': 'ext', 'path': 'absolute.faiss'}"),
                   "absolute.faiss"));
    ck_assert_uint_eq(size_of("absolute.faiss"), size);
    /* Its ids count as well. */
    ck_assert(run("touch '%s/half.faiss.ids.jsonl'", testing_folder()));
    ck_assert(says(box_fails(b, "ALREADY_EXISTS", "index.export", "{'collection': 'ext', 'path': 'half.faiss'}"),
                   "half.faiss.ids.jsonl"));
    ck_assert_uint_eq(files_named("half.faiss"), 1);
    ck_assert_int_eq(box_semctl("-s %s index export by-semctl.faiss -c ext", b->daemon.address), 0);
    ck_assert_uint_eq(size_of("by-semctl.faiss"), size);
    finish(&w);
}
END_TEST

START_TEST(without_a_folder_exports_are_refused)
{
    faiss_box w;
    if (!faiss_box_start(&w, NULL, 0))
        return;
    ck_assert(says(box_fails(&w.b, "FAILED_PRECONDITION", "index.export", "{'path': '/tmp/semd-test.faiss'}"),
                   "storage.export_dir"));
    finish(&w);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blackbox_export");
    TCase *tc = tcase_create("blackbox_export");
    tcase_set_timeout(tc, 280);
    tcase_add_test(tc, python_finds_what_the_engine_faiss_finds_with_sq8);
    tcase_add_test(tc, python_finds_what_the_engine_faiss_finds_with_flat);
    tcase_add_test(tc, our_own_lists_are_exported_with_every_vector);
    tcase_add_test(tc, what_has_no_lists_is_exported_flat);
    tcase_add_test(tc, an_export_goes_where_it_may_and_over_no_file);
    tcase_add_test(tc, without_a_folder_exports_are_refused);
    suite_add_tcase(suite, tc);
    return testing_run(suite);
}
