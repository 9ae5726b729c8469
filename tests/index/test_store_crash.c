/* What was acknowledged survives kill -9; what was not is there whole or not at all. */
#include "tests/index/store_fixture.h"

#include "base/random.h"

#include <signal.h>
#include <sys/wait.h>

enum { ROUNDS = 20, GROUP = 3, BATCH = 5, RECEIPTS_MAX = 30, WAIT_US_MAX = 5000 };

/* One acknowledged request: the ids first .. first + BATCH - 1 say `value`. */
typedef struct receipt {
    uint64_t first, value;
} receipt;

static void expected_text(char text[128], uint64_t id, uint64_t value)
{
    snprintf(text, 128, "document %llu as of %llu", (unsigned long long)id, (unsigned long long)value);
}

static void put_batch(store_write *w, uint32_t c, receipt batch)
{
    sem_error error;
    char texts[BATCH][128];
    float vectors[BATCH][DIM];
    store_put puts[BATCH];
    uint64_t seq;
    for (uint64_t i = 0; i < BATCH; i++) {
        expected_text(texts[i], batch.first + i, batch.value);
        for (int d = 0; d < DIM; d++)
            vectors[i][d] = (float)(batch.value + i) + (float)d;
        puts[i] = (store_put){.id = number_id(batch.first + i),
                              .text = texts[i],
                              .text_length = strlen(texts[i]),
                              .vector = vectors[i],
                              .second = vectors[i]};
    }
    ck_ok(store_documents_put(w, c, SPACE, DIM, OTHER_SPACE, DIM, puts, BATCH, &seq, &error));
}

/* Writes groups for ever; each request is reported once its group is durable. */
static void write_for_ever(int out, uint64_t value)
{
    sem_error error;
    random_state random;
    store_collection c;
    store_read *r;
    store *s = open_with(MAP, 0);
    random_seed(&random, testing_seed() + value);
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(store_collection_find(r, "default", 7, &c, &error));
    store_read_end(r);
    for (;;) {
        receipt group[GROUP];
        store_write *w;
        ck_ok(store_write_begin(s, &w, &error));
        for (int i = 0; i < GROUP; i++) {
            /* Old batches are overwritten, so that slots are freed all the time. */
            group[i] = (receipt){.first = BATCH * random_below(&random, 200), .value = ++value};
            put_batch(w, c.number, group[i]);
        }
        ck_ok(store_write_commit(w, &error));
        if (write(out, group, sizeof group) != (ssize_t)sizeof group)
            _exit(0);
    }
}

/* Every document is whole; the newest acknowledged value, or a later one, is there. */
static void check_documents(const uint64_t *acknowledged, size_t batches)
{
    sem_error error;
    store_collection c;
    store_read *r;
    store *s = open_with(MAP, 0);
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(store_collection_find(r, "default", 7, &c, &error));
    for (size_t b = 0; b < batches; b++) {
        uint64_t value = 0;
        for (uint64_t i = 0; i < BATCH; i++) {
            store_document doc;
            bool found;
            char text[128] = {0}, wanted[128];
            docid id = number_id(b * BATCH + i);
            ck_ok(store_document_get(r, c.number, &id, &doc, &found, &error));
            if (!found) {
                ck_assert_msg(acknowledged[b] == 0 && value == 0, "batch %zu lost or torn", b);
                continue;
            }
            memcpy(text, doc.text, doc.text_length < 127 ? doc.text_length : 127);
            uint64_t seen = strtoull(strstr(text, "as of ") + 6, NULL, 10);
            expected_text(wanted, id.integer, seen);
            ck_assert_str_eq(text, wanted);
            ck_assert_msg(i == 0 || seen == value, "batch %zu is torn", b);
            ck_assert_msg(seen >= acknowledged[b], "batch %zu is older than what was acknowledged", b);
            value = seen;
            for (uint32_t space = SPACE; space <= OTHER_SPACE; space++) {
                float vector[DIM];
                uint64_t version;
                ck_ok(store_vector_get(r, space, c.number, doc.docno, vector, DIM, &version, &found, &error));
                ck_assert_msg(found && version == doc.text_version, "a document without its vector");
                ck_assert(vector[DIM - 1] == (float)(value + i) + (float)(DIM - 1));
            }
        }
    }
    store_read_end(r);
    store_close(s);
}

/* Vectors in a space are exactly those of the documents, once freed ones are deleted. */
static void check_no_leak(void)
{
    sem_error error;
    store_collection c;
    store_read *r;
    store *s = open_with(MAP, 0);
    for (int i = 0; i < 3; i++)
        empty_group(s);
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(store_collection_find(r, "default", 7, &c, &error));
    store_read_end(r);
    store_close(s);
    ck_assert_uint_eq(vectors_on_disk("space-1"), c.documents);
    ck_assert_uint_eq(vectors_on_disk("space-2"), c.documents);
}

static int in_child(void (*check)(const uint64_t *, size_t), const uint64_t *acknowledged, size_t batches)
{
    int status = -1;
    pid_t child = fork();
    if (child == 0) {
        check(acknowledged, batches);
        _exit(0);
    }
    ck_assert_int_gt(child, 0);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return status;
}

static void leak_check(const uint64_t *acknowledged, size_t batches)
{
    (void)acknowledged, (void)batches;
    check_no_leak();
}

static void make_store(const uint64_t *acknowledged, size_t batches)
{
    (void)acknowledged, (void)batches;
    uint32_t c;
    sem_error error;
    store_write *w;
    store *s = new_store(MAP);
    ck_ok(store_write_begin(s, &w, &error));
    c = make_collection(w, "default");
    ck_assert_uint_gt(c, 0);
    ck_ok(store_write_commit(w, &error));
    store_close(s);
}

/* Takes `count` receipts, waits a little into the group that follows, kills,
 * and takes what is left in the pipe. Returns the newest value. */
static uint64_t collect(int in, pid_t child, uint64_t count, useconds_t wait_us, uint64_t *acknowledged)
{
    receipt got;
    uint64_t newest = 0, taken = 0;
    while (read(in, &got, sizeof got) == sizeof got) {
        acknowledged[got.first / BATCH] = got.value;
        newest = got.value;
        if (++taken == count) {
            usleep(wait_us);
            kill(child, SIGKILL);
        }
    }
    ck_assert_uint_ge(taken, count);
    return newest;
}

START_TEST(acknowledged_write_survives_kill)
{
    enum { BATCHES = 200 };
    static uint64_t acknowledged[BATCHES];
    random_state random;
    uint64_t value = 0;
    random_seed(&random, testing_seed());
    store_folder();
    ck_assert_int_eq(in_child(make_store, NULL, 0), 0);
    for (int round = 0; round < ROUNDS; round++) {
        int pipes[2];
        ck_assert_int_eq(pipe(pipes), 0);
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0) {
            close(pipes[0]);
            write_for_ever(pipes[1], value);
        }
        close(pipes[1]);
        uint64_t receipts = 1 + random_below(&random, RECEIPTS_MAX);
        useconds_t wait_us = (useconds_t)random_below(&random, WAIT_US_MAX);
        /* A group may have been under way: the next values are above all that was written. */
        value = collect(pipes[0], child, receipts, wait_us, acknowledged) + 10000;
        close(pipes[0]);
        waitpid(child, NULL, 0);
        ck_assert_msg(in_child(check_documents, acknowledged, BATCHES) == 0, "round %d", round);
    }
    ck_assert_int_eq(in_child(leak_check, NULL, 0), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store crash");
    TCase *tests = tcase_create("store crash");
    tcase_set_timeout(tests, 300);
    tcase_add_test(tests, acknowledged_write_survives_kill);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
