/* Vectors of a teacher or a guide: computed once, kept in a file, never wrong. */
#include "tests/common/testing.h"

#include "base/random.h"
#include "model/model.h"
#include "model/model_print.h"
#include "finetune/disk_table.h"
#include "finetune/kept_file.h"
#include "finetune/kept_vectors.h"
#include "finetune/text_vectors.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static sem_error error;

enum { TEXTS = 40, DIM = 48 };

typedef struct kept_case {
    char path[512], told[1024];
    char words[TEXTS][64];
    kept_text texts[TEXTS];
    float vectors[TEXTS * DIM];
    kept_vectors *k;
} kept_case;

static void note(void *context, const char *message)
{
    kept_case *c = context;
    snprintf(c->told, sizeof c->told, "%s", message);
}

static sem_status open_kept(kept_case *c, const char *golden, bool kept)
{
    const kept_options o = {
        .model = testing_shared(golden), .path = kept ? c->path : NULL, .threads = 2, .tell = note, .context = c};
    c->told[0] = '\0';
    return kept_vectors_open(&c->k, &o, &error);
}

/* False where the models are missing. */
static bool arrange(kept_case *c)
{
    memset(c, 0, sizeof *c);
    snprintf(c->path, sizeof c->path, "%s/vectors", testing_folder());
    unlink(c->path);
    for (size_t i = 0; i < TEXTS; i++) {
        snprintf(c->words[i], sizeof c->words[i], "text %zu%s", i, i % 3 == 0 ? " and some more words of it" : "");
        c->texts[i].text = (data_text){c->words[i], strlen(c->words[i])};
    }
    return testing_shared("golden/tiny-bert") != NULL;
}

/* All of them, [from, to) of them at a time, in this many calls. */
static void get_all(kept_case *c, size_t at_a_time)
{
    memset(c->vectors, 0, sizeof c->vectors);
    for (size_t i = 0; i < TEXTS; i += at_a_time) {
        const size_t count = TEXTS - i < at_a_time ? TEXTS - i : at_a_time;
        ck_ok(kept_vectors_get(c->k, c->texts + i, count, c->vectors + i * DIM, &error));
    }
}

static float *expected_vectors(const kept_case *c)
{
    model *m;
    data_text texts[TEXTS];
    float *out;
    for (size_t i = 0; i < TEXTS; i++)
        texts[i] = c->texts[i].text;
    ck_ok(model_open(&m, testing_shared("golden/tiny-bert"), NULL, NULL, &error));
    ck_ok(text_vectors(m, texts, TEXTS, false, 1, (niceness){0}, &out, &error));
    model_close(m);
    return out;
}

START_TEST(a_vector_has_the_same_bits_alone_in_a_batch_and_kept)
{
    kept_case c;
    if (!arrange(&c))
        return;
    float *expected = expected_vectors(&c);
    for (size_t at_a_time = 1; at_a_time <= TEXTS; at_a_time += 13) {
        ck_ok(open_kept(&c, "golden/tiny-bert", false));
        get_all(&c, at_a_time);
        ck_assert_mem_eq(c.vectors, expected, sizeof c.vectors);
        kept_vectors_close(c.k);
    }
    for (size_t round = 0; round < 2; round++) {
        ck_ok(open_kept(&c, "golden/tiny-bert", true));
        ck_assert_uint_eq(kept_vectors_dim(c.k), DIM);
        get_all(&c, 7);
        get_all(&c, TEXTS);
        ck_assert_mem_eq(c.vectors, expected, sizeof c.vectors);
        ck_assert_uint_eq(kept_vectors_counts(c.k).computed, round == 0 ? TEXTS : 0);
        ck_assert_uint_eq(kept_vectors_counts(c.k).kept, TEXTS);
        ck_assert_str_eq(c.told, "");
        kept_vectors_close(c.k);
    }
    free(expected);
}
END_TEST

START_TEST(equal_texts_are_computed_once_and_prompts_count)
{
    kept_case c;
    float out[5 * 64];
    if (!arrange(&c))
        return;
    const kept_text same[] = {
        {{"a", 1}, false}, {{"b", 1}, false}, {{"a", 1}, true}, {{"a", 1}, false}, {{"b", 1}, true}};
    ck_ok(open_kept(&c, "golden/tiny-bert", true));
    ck_ok(kept_vectors_get(c.k, same, 5, out, &error));
    ck_assert_uint_eq(kept_vectors_counts(c.k).computed, 2); /* it has no prompts */
    ck_assert_mem_eq(out, out + 3 * DIM, DIM * sizeof *out);
    ck_assert_mem_eq(out + DIM, out + 4 * DIM, DIM * sizeof *out);
    kept_vectors_close(c.k);
    unlink(c.path);
    ck_ok(open_kept(&c, "golden/family-bert-cased-sqrt-f16-prompts", true));
    const size_t dim = kept_vectors_dim(c.k);
    ck_assert_uint_le(dim, 64);
    ck_ok(kept_vectors_get(c.k, same, 5, out, &error));
    ck_assert_uint_eq(kept_vectors_counts(c.k).computed, 4);
    ck_assert(memcmp(out, out + 2 * dim, dim * sizeof *out) != 0);
    ck_assert_mem_eq(out, out + 3 * dim, dim * sizeof *out);
    kept_vectors_close(c.k);
}
END_TEST

static size_t file_size(const char *path)
{
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    return (size_t)st.st_size;
}

static void flip(const char *path, size_t at)
{
    FILE *file = fopen(path, "r+b");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fseek(file, (long)at, SEEK_SET), 0);
    const int byte = fgetc(file);
    ck_assert_int_eq(fseek(file, (long)at, SEEK_SET), 0);
    ck_assert_int_ne(fputc(byte ^ 0x10, file), EOF);
    ck_assert_int_eq(fclose(file), 0);
}

/* Wherever a bit is wrong or the file ends: all vectors come right, and it is told. */
START_TEST(a_damaged_file_is_told_of_and_computed_anew)
{
    kept_case c;
    random_state r;
    if (!arrange(&c))
        return;
    random_seed(&r, testing_seed());
    float *expected = expected_vectors(&c);
    for (size_t round = 0; round < 30; round++) {
        unlink(c.path);
        ck_ok(open_kept(&c, "golden/tiny-bert", true));
        get_all(&c, 9);
        kept_vectors_close(c.k);
        const size_t size = file_size(c.path);
        if (round % 2 == 0)
            flip(c.path, 8 + (size_t)random_below(&r, size - 8));
        else
            ck_assert_int_eq(truncate(c.path, (off_t)(9 + random_below(&r, size - 9))), 0);
        ck_ok(open_kept(&c, "golden/tiny-bert", true));
        const uint64_t left = kept_vectors_counts(c.k).kept;
        get_all(&c, 11);
        ck_assert_mem_eq(c.vectors, expected, sizeof c.vectors);
        ck_assert_uint_eq(kept_vectors_counts(c.k).computed, TEXTS - left);
        /* A cut between two blocks leaves a whole file. */
        const bool between = round % 2 == 1 && c.told[0] == '\0';
        ck_assert_msg(between || strstr(c.told, "computed anew") != NULL, "round %zu: \"%s\"", round, c.told);
        kept_vectors_close(c.k);
    }
    free(expected);
}
END_TEST

START_TEST(vectors_of_another_model_are_computed_anew)
{
    kept_case c;
    if (!arrange(&c))
        return;
    ck_ok(open_kept(&c, "golden/tiny-bert-max", true));
    get_all(&c, TEXTS);
    kept_vectors_close(c.k);
    ck_ok(open_kept(&c, "golden/tiny-bert", true));
    ck_assert_ptr_nonnull(strstr(c.told, "of another model"));
    get_all(&c, TEXTS);
    float *expected = expected_vectors(&c);
    ck_assert_mem_eq(c.vectors, expected, sizeof c.vectors);
    kept_vectors_close(c.k);
    free(expected);
}
END_TEST

START_TEST(a_file_that_holds_something_else_is_left_alone)
{
    kept_case c;
    if (!arrange(&c))
        return;
    FILE *file = fopen(c.path, "w");
    ck_assert_ptr_nonnull(file);
    fputs("my thesis", file);
    fclose(file);
    ck_fails(open_kept(&c, "golden/tiny-bert", true), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "something else"));
    ck_assert_uint_eq(file_size(c.path), strlen("my thesis"));
    snprintf(c.path, sizeof c.path, "/nowhere/at/all");
    ck_fails(open_kept(&c, "golden/tiny-bert", true), SEM_NOT_FOUND);
}
END_TEST

START_TEST(a_file_is_for_one_run_at_a_time)
{
    kept_case c;
    if (!arrange(&c))
        return;
    ck_ok(open_kept(&c, "golden/tiny-bert", true));
    kept_vectors *first = c.k;
    ck_fails(open_kept(&c, "golden/tiny-bert", true), SEM_FAILED_PRECONDITION);
    kept_vectors_close(first);
    ck_ok(open_kept(&c, "golden/tiny-bert", true));
    kept_vectors_close(c.k);
}
END_TEST

START_TEST(what_was_kept_survives_a_kill)
{
    kept_case c;
    if (!arrange(&c))
        return;
    float *expected = expected_vectors(&c);
    for (size_t round = 0; round < 5; round++) {
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            if (open_kept(&c, "golden/tiny-bert", true) == SEM_OK)
                for (size_t i = 0; i < TEXTS; i++)
                    (void)kept_vectors_get(c.k, c.texts + i, 1, c.vectors, &error);
            raise(SIGKILL);
        }
        usleep(1000 * (useconds_t)(2 * round));
        kill(child, SIGKILL);
        ck_assert_int_eq(waitpid(child, NULL, 0), child);
        ck_ok(open_kept(&c, "golden/tiny-bert", true));
        get_all(&c, TEXTS);
        ck_assert_mem_eq(c.vectors, expected, sizeof c.vectors);
        kept_vectors_close(c.k);
        ck_assert_int_eq(truncate(c.path, (off_t)(file_size(c.path) * round / 5)), 0);
    }
    free(expected);
}
END_TEST

START_TEST(a_model_s_print_is_that_of_its_copy_and_of_no_other)
{
    uint64_t first, other, copy;
    char to[512];
    const char *dir = testing_shared("golden/tiny-bert");
    if (dir == NULL)
        return;
    snprintf(to, sizeof to, "cp -rL '%s' '%s/copy'", dir, testing_folder());
    ck_assert_int_eq(system(to), 0);
    ck_ok(model_print(dir, &first, &error));
    ck_ok(model_print(testing_shared("golden/tiny-bert-max"), &other, &error));
    ck_assert(first != other);
    snprintf(to, sizeof to, "%s/copy", testing_folder());
    ck_ok(model_print(to, &copy, &error));
    ck_assert_uint_eq(copy, first);
    snprintf(to, sizeof to, "%s/copy/1_Pooling/config.json", testing_folder());
    ck_assert_int_eq(chmod(to, 0600), 0);
    flip(to, 2);
    snprintf(to, sizeof to, "%s/copy", testing_folder());
    ck_ok(model_print(to, &copy, &error));
    ck_assert(copy != first);
}
END_TEST

START_TEST(a_table_finds_every_key_however_many_there_are)
{
    enum { KEYS = 100000 };
    disk_table *t;
    ck_ok(disk_table_create(&t, testing_folder(), &error));
    for (uint64_t i = 0; i < KEYS; i++)
        ck_ok(disk_table_put(t, i % 2 == 0 ? i : random_at(i, 1), i + 1, &error));
    ck_ok(disk_table_put(t, 0, 7, &error));
    ck_assert_uint_eq(disk_table_count(t), KEYS);
    ck_assert_uint_eq(disk_table_get(t, 0), 7);
    for (uint64_t i = 1; i < KEYS; i++)
        ck_assert_uint_eq(disk_table_get(t, i % 2 == 0 ? i : random_at(i, 1)), i + 1);
    ck_assert_uint_eq(disk_table_get(t, 1), 0);
    disk_table_destroy(t);
    ck_fails(disk_table_create(&t, "/nowhere", &error), SEM_NOT_FOUND);
}
END_TEST

/* Memory of the process's own, without what it maps of files. */
static long own_kilobytes(void)
{
    char line[128];
    long found = -1;
    FILE *file = fopen("/proc/self/status", "r");
    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "RssAnon: %ld", &found) == 1)
            break;
    fclose(file);
    return found;
}

START_TEST(a_file_of_any_length_takes_no_memory)
{
    enum { BLOCKS = 60, WIDTH = 256, MOST_KB = 8 << 10 /* a block takes 1 MiB, the vectors 60 */ };
    kept_file *f;
    char path[512], told[512];
    uint64_t keys[KEPT_BLOCK_MAX];
    float out[WIDTH], *vectors = malloc(KEPT_BLOCK_MAX * sizeof out);
    ck_assert_ptr_nonnull(vectors);
    snprintf(path, sizeof path, "%s/long", testing_folder());
    const long before = own_kilobytes();
    for (size_t round = 0; round < 2; round++) {
        ck_ok(kept_file_open(&f, path, 7, WIDTH, told, &error));
        for (uint64_t i = 0; i < BLOCKS && round == 0; i++) {
            for (uint64_t k = 0; k < KEPT_BLOCK_MAX; k++) {
                keys[k] = i * KEPT_BLOCK_MAX + k;
                for (size_t d = 0; d < WIDTH; d++)
                    vectors[k * WIDTH + d] = (float)(keys[k] + d);
            }
            ck_ok(kept_file_put(f, keys, vectors, KEPT_BLOCK_MAX, &error));
        }
        ck_assert_uint_eq(kept_file_count(f), BLOCKS * KEPT_BLOCK_MAX);
        for (uint64_t key = 0; key <= BLOCKS * KEPT_BLOCK_MAX; key += 997) {
            bool found;
            ck_ok(kept_file_get(f, key, out, &found, &error));
            ck_assert(found == (key < BLOCKS * KEPT_BLOCK_MAX));
            ck_assert(!found || (out[0] == (float)key && out[WIDTH - 1] == (float)(key + WIDTH - 1)));
        }
        ck_assert_int_lt(own_kilobytes() - before, MOST_KB);
        kept_file_close(f);
    }
    free(vectors);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kept_vectors");
    TCase *tests = tcase_create("kept");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, a_vector_has_the_same_bits_alone_in_a_batch_and_kept);
    tcase_add_test(tests, equal_texts_are_computed_once_and_prompts_count);
    tcase_add_test(tests, a_damaged_file_is_told_of_and_computed_anew);
    tcase_add_test(tests, vectors_of_another_model_are_computed_anew);
    tcase_add_test(tests, a_file_that_holds_something_else_is_left_alone);
    tcase_add_test(tests, a_file_is_for_one_run_at_a_time);
    tcase_add_test(tests, what_was_kept_survives_a_kill);
    tcase_add_test(tests, a_model_s_print_is_that_of_its_copy_and_of_no_other);
    tcase_add_test(tests, a_table_finds_every_key_however_many_there_are);
    tcase_add_test(tests, a_file_of_any_length_takes_no_memory);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
