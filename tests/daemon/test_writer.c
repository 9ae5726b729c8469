/* The writer over a store and two spaces without models: what it leaves in the
 * indices is what the store says, a call that fails leaves nothing, and deletes find
 * room in smaller groups. */
#include "tests/common/small_disk.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/files.h"
#include "base/pool.h"
#include "proto/pack.h"
#include "daemon/core.h"
#include "daemon/deletes.h"
#include "daemon/task.h"
#include "daemon/writer.h"

#include <lmdb.h>

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 4, MAP = 64 << 20, NOW = 1, NEXT = 2, ID = 7 };

static core c;
static store_collection collection;
static sem_t answered;

/* --- a core of store, writer, a current generation and a candidate */

static void take_reply(void *context, uint64_t connection, buffer *reply)
{
    (void)context, (void)connection;
    /* [1, msgid, error, result]: no error is nil. */
    ck_assert_uint_gt(reply->size, 4);
    ck_assert_uint_eq(reply->data[3], 0xC0);
    buffer_free(reply);
    sem_post(&answered);
}

static void fill_store(void)
{
    sem_error error;
    store_write *w;
    bool created;
    collection = (store_collection){.name = "default"};
    ck_ok(store_write_begin(c.store, &w, &error));
    for (uint32_t n = NOW; n <= NEXT; n++) {
        store_generation g = {.number = n,
                              .state = n == NOW ? GENERATION_CURRENT : GENERATION_CANDIDATE,
                              .space = n,
                              .dim = DIM,
                              .mode = "seed",
                              .model = "m"};
        ck_ok(store_generation_put(w, &g, &error));
    }
    ck_ok(store_collection_create(w, &collection, &created, &error));
    ck_ok(store_write_commit(w, &error));
}

static serving *open_serving(uint32_t number)
{
    sem_error error;
    space_options options = {.store = c.store, .number = number, .dim = DIM, .exact_below = 1000, .threads = 1};
    serving *s = calloc(1, sizeof *s);
    ck_assert_ptr_nonnull(s);
    s->references = 1;
    s->generation = number;
    ck_ok(store_space_open(c.store, number, DIM, &error));
    ck_ok(space_create(&s->space, &options, &error));
    ck_ok(space_add(s->space, &collection, &error));
    return s;
}

static void start(void)
{
    static char path[FILES_PATH_MAX];
    sem_error error;
    memset(&c, 0, sizeof c);
    sem_init(&answered, 0, 0);
    ck_ok(files_join(path, &error, "%s/store", testing_folder()));
    store_options options = {.path = path, .map_size = MAP};
    ck_ok(store_open(&c.store, &options, NULL, &error));
    fill_store();
    c.hooks.reply = take_reply;
    c.settings.events.click_window_ms = 60000;
    serving_slot_init(&c.current);
    serving_slot_init(&c.candidate);
    serving_slot_swap(&c.current, open_serving(NOW));
    serving_slot_swap(&c.candidate, open_serving(NEXT));
    space_options external = {.store = c.store, .number = STORE_SPACE_EXTERNAL, .exact_below = 1000, .threads = 1};
    ck_ok(space_create(&c.external, &external, &error));
    ck_ok(writer_create(&c.writer, &c, &error));
}

static void stop(void)
{
    writer_destroy(c.writer);
    serving_release(serving_slot_swap(&c.current, NULL));
    serving_release(serving_slot_swap(&c.candidate, NULL));
    space_release(c.external);
    store_close(c.store);
    sem_destroy(&answered);
}

/* --- writes as workers hand them over */

static request *parse(buffer *frame)
{
    sem_error error;
    request *r;
    uint32_t msgid;
    bool notification;
    request_limits limits;
    request_limits_defaults(&limits);
    ck_ok(request_parse(&r, frame, &limits, &msgid, &notification, &error));
    return r;
}

/* Of a request whose only parameter is a list of one: what comes next is that one. */
static void begin_request(packer *p, buffer *frame, const char *method, const char *parameter)
{
    pack_init(p, frame);
    request_begin(p, 1, method);
    pack_array(p, 1);
    pack_map(p, 1);
    pack_str(p, parameter);
    pack_array(p, 1);
}

static request *upsert_request(const char *text)
{
    buffer frame = {0};
    packer p;
    begin_request(&p, &frame, "upsert", "docs");
    pack_map(&p, 2);
    pack_str(&p, "id");
    pack_uint(&p, ID);
    pack_str(&p, "text");
    pack_str(&p, text);
    return parse(&frame);
}

static float *vector_of(float first)
{
    float *v = checked_alloc_aligned(DIM, sizeof *v);
    ck_assert_ptr_nonnull(v);
    v[0] = first;
    v[1] = v[2] = v[3] = 1;
    return v;
}

static void await_answers(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        while (sem_wait(&answered) != 0)
            ;
}

/* second: the worker embedded it with the candidate as well. */
static void submit_upsert(const char *text, float first, bool second)
{
    task *t = task_create(&c, 0, upsert_request(text), clock_monotonic_ns());
    ck_assert_ptr_nonnull(t);
    t->collection = collection.number;
    t->serving = serving_slot_acquire(&c.current);
    t->vectors = vector_of(first);
    if (second) {
        t->candidate = serving_slot_acquire(&c.candidate);
        t->second = vector_of(first + 100);
    }
    writer_submit(c.writer, t);
}

static void upsert(const char *text, float first, bool second)
{
    submit_upsert(text, first, second);
    await_answers(1);
}

/* Whether the generation's index has the document. */
static bool is_indexed(serving_slot *slot)
{
    serving *s = serving_slot_acquire(slot);
    space_index *i = space_acquire(s->space, collection.number);
    bool indexed = vector_index_count(i->index) == 1;
    space_index_release(i);
    serving_release(s);
    return indexed;
}

/* Whether the store has a vector of the document's text in the space: what a job goes by. */
static bool is_stored(uint32_t space_no)
{
    sem_error error;
    store_read *r;
    store_document doc;
    docid id = {.is_integer = true, .integer = ID};
    float vector[DIM];
    uint64_t version = 0;
    bool found, stored;
    ck_ok(store_read_begin(c.store, &r, &error));
    ck_ok(store_document_get(r, collection.number, &id, &doc, &found, &error));
    ck_assert(found);
    ck_ok(store_vector_get(r, space_no, collection.number, doc.docno, vector, DIM, &version, &stored, &error));
    stored = stored && version == doc.text_version;
    store_read_end(r);
    return stored;
}

START_TEST(the_candidates_index_has_what_its_space_has)
{
    start();
    upsert("a text", 1, true);
    ck_assert(is_stored(NOW) && is_indexed(&c.current));
    ck_assert(is_stored(NEXT) && is_indexed(&c.candidate));
    /* The same again, by a worker that did not embed with the candidate (yet, or
     * any more): nobody will embed it anew, so the vector has to stay. */
    upsert("a text", 1, false);
    ck_assert(is_stored(NOW) && is_indexed(&c.current));
    ck_assert(is_stored(NEXT) && is_indexed(&c.candidate));
    /* The same text with another vector counts as another text. */
    upsert("a text", 2, false);
    ck_assert(is_stored(NOW) && is_indexed(&c.current));
    ck_assert(!is_stored(NEXT) && !is_indexed(&c.candidate));
    upsert("a text", 2, true);
    ck_assert(is_stored(NEXT) && is_indexed(&c.candidate));
    upsert("another text", 2, false);
    ck_assert(is_stored(NOW) && is_indexed(&c.current));
    ck_assert(!is_stored(NEXT) && !is_indexed(&c.candidate));
    upsert("another text", 2, false);
    ck_assert(!is_stored(NEXT) && !is_indexed(&c.candidate));
    stop();
}
END_TEST

/* --- calls */

typedef struct flipping {
    sem_status outcome; /* after the flip, in the same call */
    bool committed;
} flipping;

static sem_status flip_and_more(void *context, store_write *w, sem_error *err)
{
    flipping *f = context;
    sem_status status = store_generation_flip(w, NEXT, GENERATION_PREVIOUS, err);
    if (status == SEM_OK && f->outcome != SEM_OK)
        status = sem_fail(err, f->outcome, "no room for the job's record");
    return status;
}

static void note_commit(void *context)
{
    flipping *f = context;
    f->committed = true;
}

static uint32_t current_generation(void)
{
    sem_error error;
    store_read *r;
    store_generation g;
    bool found;
    ck_ok(store_read_begin(c.store, &r, &error));
    ck_ok(store_generation_current(r, &g, &found, &error));
    store_read_end(r);
    ck_assert(found);
    store_generation_free(&g);
    return g.number;
}

static const char query_id[] = "00000000000000000000000000000001";

static void log_a_search(void)
{
    static const docid shown = {.is_integer = true, .integer = ID};
    static const float score = 1;
    search_record *r = pool_take_cleared(NULL, 1, sizeof *r);
    ck_assert_ptr_nonnull(r);
    memcpy(r->query_id, query_id, sizeof query_id);
    r->event = (event_search){.query_id = r->query_id,
                              .time_ms = clock_wall_ms(),
                              .collection = collection.number,
                              .generation = NOW,
                              .query = "a query",
                              .query_length = 7,
                              .shown = &shown,
                              .scores = &score,
                              .shown_count = 1};
    writer_log_search(c.writer, r);
}

static sem_status click(void *context, store_write *w, sem_error *err)
{
    (void)context;
    docid id = {.is_integer = true, .integer = ID};
    return events_put_click(w, query_id, sizeof query_id - 1, &id, 1, clock_wall_ms(), 60000, err);
}

START_TEST(a_call_that_fails_leaves_nothing_and_loses_no_search)
{
    sem_error error;
    static const sem_status outcomes[] = {SEM_RESOURCE_EXHAUSTED, SEM_CANCELLED, SEM_NOT_FOUND};
    start();
    log_a_search();
    for (size_t i = 0; i < sizeof outcomes / sizeof *outcomes; i++) {
        flipping f = {.outcome = outcomes[i]};
        write_call call = {.apply = flip_and_more, .committed = note_commit, .context = &f};
        ck_fails(writer_run(c.writer, &call, &error), outcomes[i]);
        ck_assert(!f.committed);
        ck_assert_uint_eq(current_generation(), NOW);
    }
    write_call clicking = {.apply = click};
    ck_ok(writer_run(c.writer, &clicking, &error));
    ck_assert_uint_eq(atomic_load(&c.stats.events_dropped), 0);
    flipping f = {.outcome = SEM_OK};
    write_call call = {.apply = flip_and_more, .committed = note_commit, .context = &f};
    ck_ok(writer_run(c.writer, &call, &error));
    ck_assert(f.committed);
    ck_assert_uint_eq(current_generation(), NEXT);
    stop();
}
END_TEST

/* --- a full disk */

enum { SHORT_TEXT = 700, A_GROUP = 500, DELETES = 200 };

typedef struct filling {
    uint64_t count; /* documents so far */
    bool full;
} filling;

static sem_status put_some(void *context, store_write *w, sem_error *err)
{
    static char text[SHORT_TEXT + 1];
    static const float vector[DIM] = {1, 2, 3, 4};
    filling *f = context;
    memset(text, 'x', SHORT_TEXT);
    for (unsigned i = 0; i < A_GROUP && !f->full; i++) {
        uint64_t seq;
        store_put put = {
            .id = {.is_integer = true, .integer = f->count}, .text = text, .text_length = SHORT_TEXT, .vector = vector};
        sem_status status = store_documents_put(w, collection.number, NOW, DIM, 0, 0, &put, 1, &seq, err);
        f->full = status == SEM_RESOURCE_EXHAUSTED;
        if (status != SEM_OK && !f->full)
            return status;
        f->count += status == SEM_OK;
    }
    return SEM_OK;
}

static request *delete_request(uint64_t id)
{
    buffer frame = {0};
    packer p;
    begin_request(&p, &frame, "delete", "ids");
    pack_uint(&p, id);
    return parse(&frame);
}

static void submit_delete(uint64_t id)
{
    task *t = task_create(&c, 0, delete_request(id), clock_monotonic_ns());
    ck_assert_ptr_nonnull(t);
    t->collection = collection.number;
    writer_submit(c.writer, t);
}

/* A call that keeps the writer busy, so that what is handed over meanwhile is one group. */
typedef struct holding {
    sem_t begun, go;
    pthread_t thread;
    unsigned failing; /* the so-manieth commit of LMDB after the call fails; 0: none */
} holding;

static atomic_uint commits_left; /* the one that takes it to 0 fails */

int __real_mdb_txn_commit(MDB_txn *txn);
int __wrap_mdb_txn_commit(MDB_txn *txn);

int __wrap_mdb_txn_commit(MDB_txn *txn)
{
    if (atomic_load(&commits_left) == 0 || atomic_fetch_sub(&commits_left, 1) > 1)
        return __real_mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return ENOSPC;
}

static sem_status wait_for_go(void *context, store_write *w, sem_error *err)
{
    holding *h = context;
    (void)w, (void)err;
    sem_post(&h->begun);
    while (sem_wait(&h->go) != 0)
        ;
    return SEM_OK;
}

static void fail_from_now(void *context)
{
    const holding *h = context;
    atomic_store(&commits_left, h->failing);
}

static void *hold(void *context)
{
    sem_error error;
    write_call call = {.apply = wait_for_go, .committed = fail_from_now, .context = context};
    ck_ok(writer_run(c.writer, &call, &error));
    return NULL;
}

static void hold_the_writer(holding *h)
{
    sem_init(&h->begun, 0, 0);
    sem_init(&h->go, 0, 0);
    ck_assert_int_eq(pthread_create(&h->thread, NULL, hold, h), 0);
    while (sem_wait(&h->begun) != 0)
        ;
}

static void let_it_go(holding *h)
{
    sem_post(&h->go);
    ck_assert_int_eq(pthread_join(h->thread, NULL), 0);
    sem_destroy(&h->begun);
    sem_destroy(&h->go);
}

/* All in one group. */
static void delete_scattered(uint64_t count)
{
    holding h = {0};
    hold_the_writer(&h);
    for (uint64_t i = 0; i < DELETES; i++)
        submit_delete(i * (count / DELETES));
    log_a_search();
    let_it_go(&h);
    await_answers(DELETES);
}

static uint64_t documents(void)
{
    sem_error error;
    store_read *r;
    store_collection found;
    ck_ok(store_read_begin(c.store, &r, &error));
    ck_ok(store_collection_find(r, "default", 7, &found, &error));
    store_read_end(r);
    return found.documents;
}

START_TEST(deletes_for_which_there_is_no_room_together_are_done_in_turn)
{
    sem_error error;
    char folder[FILES_PATH_MAX], other[FILES_PATH_MAX];
    filling f = {0};
    ck_ok(files_join(folder, &error, "%s/store", testing_folder()));
    if (!small_disk_mount(folder, "16m"))
        return;
    start();
    ck_ok(deletes_create(&c.deletes, &error));
    write_call fill = {.apply = put_some, .context = &f};
    while (!f.full)
        ck_ok(writer_run(c.writer, &fill, &error));
    small_disk_take(folder, other);
    uint64_t before = atomic_load(&c.stats.commits);
    delete_scattered(f.count);
    /* The holder's, and more than one of the deletes: else nothing was tested. */
    ck_assert_uint_gt(atomic_load(&c.stats.commits), before + 2);
    ck_assert_uint_eq(documents(), f.count - DELETES);
    stop();
    deletes_destroy(c.deletes);
}
END_TEST

/* Answers say of each that it is done (take_reply), wherever in the group room runs out. */
static bool deletes_and_upserts_are_done(unsigned failing)
{
    char text[32];
    holding h = {.failing = failing};
    snprintf(text, sizeof text, "a text %u", failing);
    hold_the_writer(&h);
    submit_delete(ID);
    submit_upsert(text, 1, true);
    log_a_search();
    let_it_go(&h);
    await_answers(2);
    ck_assert_uint_eq(documents(), 1);
    ck_assert(is_stored(NOW) && is_indexed(&c.current));
    ck_assert(is_stored(NEXT) && is_indexed(&c.candidate));
    bool failed = atomic_exchange(&commits_left, 0) == 0;
    hold_the_writer(&h);
    submit_delete(ID);
    log_a_search();
    let_it_go(&h);
    await_answers(1);
    ck_assert_uint_eq(documents(), 0);
    return atomic_exchange(&commits_left, 0) == 0 || failed;
}

START_TEST(whatever_finds_no_room_first_costs_no_delete_its_group)
{
    sem_error error;
    unsigned failing = 1;
    start();
    ck_ok(deletes_create(&c.deletes, &error));
    upsert("a text", 1, true);
    while (deletes_and_upserts_are_done(failing))
        failing++;
    /* Of each operation and of the group: in either space, in events and in main. */
    ck_assert_uint_ge(failing, 10);
    stop();
    deletes_destroy(c.deletes);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("writer");
    TCase *t = tcase_create("writer");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, the_candidates_index_has_what_its_space_has);
    tcase_add_test(t, a_call_that_fails_leaves_nothing_and_loses_no_search);
    tcase_add_test(t, deletes_for_which_there_is_no_room_together_are_done_in_turn);
    tcase_add_test(t, whatever_finds_no_room_first_costs_no_delete_its_group);
    suite_add_tcase(s, t);
    return testing_run(s);
}
