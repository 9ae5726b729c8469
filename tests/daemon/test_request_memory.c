/* The requests that come all the time take no memory from the allocator, once each kind
 * was seen: server and engine run in this process, and the linker puts the __wrap_
 * functions in the place of the allocator's (mk/tests.mk). What libraries take is not
 * counted, nor what threads take that serve no request. */
#include "tests/common/testing.h"
#include "tests/daemon/daemon_here.h"

#include "index/lexical_index.h"
#include "index/meta_columns.h"
#include "proto/client.h"
#include "proto/pack.h"
#include "daemon/dispatch.h"
#include "daemon/event_upkeep.h"
#include "daemon/jobs.h"
#include "daemon/space.h"
#include "daemon/writer.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { DOCS = 300, AT_ONCE = 16, FEW = 8, WARM_ROUNDS = 40, COUNTED = 150 };
enum { WORKERS = 2, SHARE = 4 /* requests of a kind that each worker must have served */, ROUNDS_MAX = 2000 };

static sem_error error;
static core *engine_core; /* of the daemon here */
static atomic_size_t allocations;
static worker *_Atomic first_worker;
static atomic_size_t served[WORKERS];    /* times that the worker took something, since it was last cleared */
static _Thread_local bool serves_nobody; /* this thread is not counted */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
char *__real_strdup(const char *text);
void *__real_mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset);
sem_status __real_space_acquire_all(space *s, space_index ***out, size_t *count, sem_error *err);
void __real_jobs_tick(core *c);
sem_status __real_lexical_index_open(lexical_index **out, store *s, sem_log *log, sem_error *err);
sem_status __real_meta_columns_merge(meta_columns *c, sem_error *err);
void __real_dispatch_task(worker *w, task *t);
sem_status __real_writer_create(writer **out, core *c, sem_error *err);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
void *__wrap_mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset);
sem_status __wrap_space_acquire_all(space *s, space_index ***out, size_t *count, sem_error *err);
void __wrap_jobs_tick(core *c);
sem_status __wrap_lexical_index_open(lexical_index **out, store *s, sem_log *log, sem_error *err);
sem_status __wrap_writer_create(writer **out, core *c, sem_error *err);
sem_status __wrap_meta_columns_merge(meta_columns *c, sem_error *err);
void __wrap_dispatch_task(worker *w, task *t);
void __wrap_pool_trim(pool *p);
sem_status __wrap_event_upkeep_create(event_upkeep **out, core *c, sem_error *err);

static void count_one(void)
{
    if (!serves_nobody)
        atomic_fetch_add(&allocations, 1);
}

void *__wrap_malloc(size_t size)
{
    count_one();
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    count_one();
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    count_one();
    return __real_realloc(old, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    count_one();
    return __real_aligned_alloc(alignment, size);
}

char *__wrap_strdup(const char *text)
{
    count_one();
    return __real_strdup(text);
}

void *__wrap_mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset)
{
    count_one();
    return __real_mmap(at, length, protection, flags, fd, offset);
}

/* Only the index thread asks for this, and only the ticker for the next. */
sem_status __wrap_space_acquire_all(space *s, space_index ***out, size_t *count, sem_error *err)
{
    serves_nobody = true;
    return __real_space_acquire_all(s, out, count, err);
}

void __wrap_jobs_tick(core *c)
{
    serves_nobody = true;
    __real_jobs_tick(c);
}

sem_status __wrap_lexical_index_open(lexical_index **out, store *s, sem_log *log, sem_error *err)
{
    serves_nobody = true;
    return __real_lexical_index_open(out, s, log, err);
}

/* Of the columns thread, when it comes to what was written. */
sem_status __wrap_meta_columns_merge(meta_columns *c, sem_error *err)
{
    serves_nobody = true;
    return __real_meta_columns_merge(c, err);
}

sem_status __wrap_writer_create(writer **out, core *c, sem_error *err)
{
    engine_core = c;
    return __real_writer_create(out, c, err);
}

/* Who of the two it is, by which of them came first. */
void __wrap_dispatch_task(worker *w, task *t)
{
    worker *first = NULL;
    bool is_first = atomic_compare_exchange_strong(&first_worker, &first, w) || first == w;
    atomic_fetch_add(&served[is_first ? 0 : 1], 1);
    __real_dispatch_task(w, t);
}

/* What a trim frees must be taken again when as much is wanted as before it, and it comes
 * by the clock: what is counted here would depend on how busy the machine is. */
void __wrap_pool_trim(pool *p)
{
    (void)p;
}

/* Its thread serves no request. */
sem_status __wrap_event_upkeep_create(event_upkeep **out, core *c, sem_error *err)
{
    (void)c, (void)err;
    *out = NULL;
    return SEM_OK;
}

/* --- requests */

typedef struct request_kind {
    const char *name, *method;
    void (*pack)(packer *p, unsigned n); /* the map of params; n tells texts apart */
    bool logged;                         /* leaves a record until the writer's next commit */
} request_kind;

static void pack_numbered(packer *p, unsigned n)
{
    char text[64];
    snprintf(text, sizeof text, "how do I top up card number %u?", n);
    pack_str(p, text);
}

static void one_text(packer *p, unsigned n)
{
    pack_map(p, 1);
    pack_str(p, "texts");
    pack_array(p, 1);
    pack_numbered(p, n);
}

static void known_text(packer *p, unsigned n)
{
    one_text(p, n % 4);
}

static void six_texts(packer *p, unsigned n)
{
    pack_map(p, 2);
    pack_str(p, "precision");
    pack_str(p, "int8");
    pack_str(p, "texts");
    pack_array(p, 6);
    for (unsigned i = 0; i < 6; i++)
        pack_numbered(p, 6 * n + i);
}

static void many_texts(packer *p, unsigned n)
{
    pack_map(p, 1);
    pack_str(p, "texts");
    pack_array(p, 20);
    for (unsigned i = 0; i < 20; i++)
        pack_numbered(p, 20 * n + i);
}

static void search_text(packer *p, unsigned n)
{
    pack_map(p, 2);
    pack_str(p, "query");
    pack_numbered(p, n);
    pack_str(p, "log");
    pack_bool(p, false);
}

static void search_logged(packer *p, unsigned n)
{
    pack_map(p, 2);
    pack_str(p, "query");
    pack_numbered(p, n);
    pack_str(p, "user");
    pack_str(p, "somebody");
}

static void search_with_options(packer *p, unsigned n)
{
    pack_map(p, 7);
    pack_str(p, "query");
    pack_numbered(p, n);
    pack_str(p, "log");
    pack_bool(p, false);
    pack_str(p, "k");
    pack_uint(p, 20);
    pack_str(p, "with");
    pack_array(p, 3);
    pack_str(p, "text");
    pack_str(p, "meta");
    pack_str(p, "vector");
    pack_str(p, "exact");
    pack_bool(p, true);
    pack_str(p, "deadline_ms");
    pack_uint(p, 30000);
    pack_str(p, "collection");
    pack_str(p, "default");
}

static size_t width; /* of the model */

static void search_vector(packer *p, unsigned n)
{
    float vector[4096] = {0};
    vector[n % width] = 1.0f;
    vector[0] += 0.5f;
    pack_map(p, 2);
    pack_str(p, "vector");
    pack_bin(p, vector, width * sizeof *vector);
    pack_str(p, "log");
    pack_bool(p, false);
}

static void documents(packer *p, unsigned n)
{
    pack_map(p, 1);
    pack_str(p, "docs");
    pack_array(p, DOCS);
    for (unsigned i = 0; i < DOCS; i++) {
        pack_map(p, 3);
        pack_str(p, "id");
        pack_uint(p, i);
        pack_str(p, "text");
        pack_numbered(p, n + i);
        pack_str(p, "meta");
        pack_map(p, 1);
        pack_str(p, "colour");
        pack_str(p, i % 2 == 0 ? "red" : "green");
    }
}

static void default_collection(packer *p, unsigned n)
{
    (void)n;
    pack_map(p, 1);
    pack_str(p, "name");
    pack_str(p, "default");
}

static const request_kind KINDS[] = {
    {"encode of a new text", "encode", one_text, false},
    {"encode of a known text", "encode", known_text, false},
    {"encode of six texts", "encode", six_texts, false},
    {"encode of many texts", "encode", many_texts, false},
    {"search by text", "search", search_text, false},
    {"search by text, logged", "search", search_logged, true},
    {"search by text with options", "search", search_with_options, false},
    {"search by vector", "search", search_vector, false},
};
enum { KIND_COUNT = sizeof KINDS / sizeof *KINDS };

static void send_one(daemon_here *d, const request_kind *kind, unsigned n)
{
    buffer params = {0};
    packer p;
    uint32_t msgid;
    pack_init(&p, &params);
    pack_array(&p, 1);
    kind->pack(&p, n);
    ck_ok(client_send(d->client, kind->method, params.data, params.size, &msgid, &error));
    buffer_free(&params);
}

static void receive_one(daemon_here *d)
{
    client_reply reply = {0};
    ck_ok(client_receive(d->client, HERE_PATIENCE_MS, &reply, &error));
    ck_ok(client_reply_status(&reply, &error));
    const msgpack_object *dim = object_get(&reply.value, "dim");
    if (dim != NULL)
        width = (size_t)object_uint(dim, 0);
    client_reply_free(&reply);
}

static void ask(daemon_here *d, const request_kind *kind, unsigned n)
{
    send_one(d, kind, n);
    receive_one(d);
}

static sem_status write_nothing(void *context, store_write *w, sem_error *err)
{
    (void)context, (void)w, (void)err;
    return SEM_OK;
}

/* Searches to be logged lie in memory until the next commit, which else comes by the
 * clock; how many they are by then must not depend on it. */
static void write_records(const request_kind *kind)
{
    const write_call nothing = {.apply = write_nothing};
    if (kind->logged)
        ck_ok(writer_run(engine_core->writer, &nothing, &error));
}

static bool all_had_a_share(void)
{
    return atomic_load(&served[0]) >= SHARE && atomic_load(&served[1]) >= SHARE;
}

/* Many at once, so that every worker has had its share and there is memory for more
 * than one; then one after the other, which are counted. */
static size_t allocations_of(daemon_here *d, const request_kind *kind)
{
    unsigned n = 0;
    atomic_store(&served[0], 0);
    atomic_store(&served[1], 0);
    for (unsigned round = 0; round < WARM_ROUNDS || !all_had_a_share(); round++) {
        ck_assert_uint_lt(round, ROUNDS_MAX);
        for (unsigned i = 0; i < AT_ONCE; i++)
            send_one(d, kind, n++);
        for (unsigned i = 0; i < AT_ONCE; i++)
            receive_one(d);
        write_records(kind);
    }
    const size_t before = atomic_load(&allocations);
    ck_assert_uint_gt(before, 0); /* the counter counts */
    for (unsigned i = 0; i < COUNTED; i++) {
        ask(d, kind, n++);
        if ((i + 1) % FEW == 0)
            write_records(kind);
    }
    write_records(kind);
    return atomic_load(&allocations) - before;
}

START_TEST(hot_requests_take_no_memory)
{
    static daemon_here d;
    const char *dir = testing_shared("golden/tiny-bert");
    if (dir == NULL)
        return;
    serves_nobody = true;
    here_start(&d, dir, WORKERS, 256 << 10 /* is full after some hundred queries */);
    ask(&d, &KINDS[0], 0);
    ask(&d, &(request_kind){.method = "collection.create", .pack = default_collection}, 0);
    ask(&d, &(request_kind){.method = "upsert", .pack = documents}, 0);
    for (size_t i = 0; i < KIND_COUNT; i++) {
        size_t taken = allocations_of(&d, &KINDS[i]);
        ck_assert_msg(taken == 0, "%s: %zu allocations in %d requests", KINDS[i].name, taken, COUNTED);
    }
    here_stop(&d);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("memory of requests");
    TCase *tests = tcase_create("requests");
    tcase_set_timeout(tests, 240);
    tcase_add_test(tests, hot_requests_take_no_memory);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
