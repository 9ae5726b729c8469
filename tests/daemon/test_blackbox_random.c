/* Random writes from several connections against a reference in memory, while
 * generations change, jobs are cancelled and the daemon is killed: what was
 * acknowledged is found with the right text and a vector made from it by the
 * current model, what was deleted never is, and nothing is left lying about.
 * SEMD_TEST_ROUNDS=N runs longer; SEMD_TEST_SEED repeats a run's choices. */
#include "tests/daemon/blackbox.h"

#include "base/random.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { WRITERS = 3, IDS = 40, ROUNDS = 6, TEXTS = 512, GROUPS = 4, COLLECTIONS = 2, PARAMS_MAX = 4096 };

typedef struct slot {
    int text; /* number of the text; -1: no such document */
    int group;
} slot;

typedef struct picture {
    bool exists[COLLECTIONS];
    slot slots[COLLECTIONS][IDS];
} picture;

/* A writer owns its ids in "default" and a collection of its own. */
typedef struct writer {
    box *box;
    client *client;
    unsigned number;
    random_state random;
    picture known, wanted; /* wanted: after the operation that was cut off */
    bool unsure;           /* whether that operation happened is not known */
    size_t operations;
    bool wrong;
    pthread_t thread;
} writer;

static const char *const words[] = {"refund", "card", "transfer", "account", "exchange", "cash", "limit", "fee"};
static atomic_bool dying; /* the daemon is being killed: a lost connection is no failure */
static atomic_bool resting;
static box b;
static writer writers[WRITERS];

static int text_of(int i, char *out, size_t size)
{
    return snprintf(out, size, "my %s and a %s or %s in the bank", words[i % 8], words[i / 8 % 8], words[i / 64 % 8]);
}

static const char *collection_name(const writer *w, int collection)
{
    static const char *const own[WRITERS] = {"own-0", "own-1", "own-2"};
    return collection == 0 ? "default" : own[w->number];
}

/* Half of the ids are integers, half strings. */
static int print_id(const writer *w, int i, char *out, size_t size)
{
    unsigned number = (unsigned)i * WRITERS + w->number;
    return snprintf(out, size, i % 2 == 0 ? "%u" : "'s%u'", number);
}

/* Which of the writer's ids it is; -1: another writer's. */
static int parse_id(const writer *w, const msgpack_object *id)
{
    unsigned long number = id->type == MSGPACK_OBJECT_STR ? strtoul(id->via.str.ptr + 1, NULL, 10) : id->via.u64;
    return number % WRITERS == w->number ? (int)(number / WRITERS) : -1;
}

static uint64_t below(writer *w, uint64_t n)
{
    return random_below(&w->random, n);
}

static void complain(writer *w, const char *what, const char *detail)
{
    if (!w->wrong)
        printf("writer %u: %s: %s\n", w->number, what, detail);
    fflush(stdout);
    w->wrong = true;
}

/* False: the connection is lost, or the call failed (then w->wrong is set,
 * unless the error is the one that is allowed). */
static bool call(writer *w, const char *method, const char *json, const char *allowed, client_reply *reply)
{
    sem_error error;
    buffer bytes = {0};
    packer pack;
    char text[FILES_PATH_MAX + 64];
    snprintf(text, sizeof text, "%s", json);
    for (char *c = text; *c != '\0'; c++)
        if (*c == '\'')
            *c = '"';
    json_t *value = json_loads(text, 0, NULL);
    pack_init(&pack, &bytes);
    pack_array(&pack, 1);
    json_pack_value(&pack, value);
    json_decref(value);
    sem_status status = client_call(w->client, method, bytes.data, bytes.size, BOX_TIMEOUT_MS, reply, &error);
    buffer_free(&bytes);
    if (status != SEM_OK) {
        if (!atomic_load(&dying))
            complain(w, method, error.message);
        return false;
    }
    if (!reply->is_error)
        return true;
    if (allowed == NULL || strstr(allowed, reply->code) == NULL) {
        const msgpack_object *message = object_get(&reply->value, "message");
        snprintf(text, sizeof text, "%s %.*s", reply->code, message != NULL ? (int)message->via.str.size : 0,
                 message != NULL ? message->via.str.ptr : "");
        complain(w, method, text);
    }
    client_reply_free(reply);
    return false;
}

/* An operation that turns known into wanted. */
static bool change(writer *w, const char *method, const char *json)
{
    client_reply reply;
    if (!call(w, method, json, NULL, &reply)) {
        w->unsure = true;
        return false;
    }
    client_reply_free(&reply);
    w->known = w->wanted;
    return true;
}

static bool do_upsert(writer *w, int collection)
{
    char json[PARAMS_MAX];
    uint64_t count = 1 + below(w, 4);
    int at = snprintf(json, sizeof json, "{'collection': '%s', 'docs': [", collection_name(w, collection));
    for (uint64_t n = 0; n < count; n++) {
        char id[32], text[128];
        int i = (int)below(w, IDS), number = (int)below(w, TEXTS), group = (int)below(w, GROUPS);
        /* Often the text that it has: then a vector that another generation made from it stays good. */
        if (w->wanted.slots[collection][i].text >= 0 && below(w, 3) == 0)
            number = w->wanted.slots[collection][i].text;
        print_id(w, i, id, sizeof id);
        text_of(number, text, sizeof text);
        at += snprintf(json + at, sizeof json - (size_t)at, "%s{'id': %s, 'text': '%s', 'meta': {'o': %u, 'g': %d}}",
                       n > 0 ? ", " : "", id, text, w->number, group);
        w->wanted.slots[collection][i] = (slot){number, group};
    }
    snprintf(json + at, sizeof json - (size_t)at, "]}");
    return change(w, "upsert", json);
}

static bool do_delete(writer *w, int collection)
{
    char json[PARAMS_MAX];
    uint64_t count = 1 + below(w, 4);
    int at = snprintf(json, sizeof json, "{'collection': '%s', 'ids': [", collection_name(w, collection));
    for (uint64_t n = 0; n < count; n++) {
        char id[32];
        int i = (int)below(w, IDS);
        print_id(w, i, id, sizeof id);
        at += snprintf(json + at, sizeof json - (size_t)at, "%s%s", n > 0 ? ", " : "", id);
        w->wanted.slots[collection][i] = (slot){-1, 0};
    }
    snprintf(json + at, sizeof json - (size_t)at, "]}");
    return change(w, "delete", json);
}

static bool do_delete_group(writer *w, int collection)
{
    char json[PARAMS_MAX];
    int group = (int)below(w, GROUPS);
    for (int i = 0; i < IDS; i++) {
        slot *s = &w->wanted.slots[collection][i];
        if (s->text >= 0 && s->group == group)
            *s = (slot){-1, 0};
    }
    snprintf(json, sizeof json,
             "{'collection': '%s', 'filter': {'all': [{'field': 'o', 'eq': %u}, {'field': 'g', 'eq': %d}]}}",
             collection_name(w, collection), w->number, group);
    return change(w, "delete", json);
}

static bool do_create_or_drop(writer *w)
{
    char json[PARAMS_MAX];
    bool create = !w->known.exists[1];
    w->wanted.exists[1] = create;
    for (int i = 0; i < IDS; i++)
        w->wanted.slots[1][i] = (slot){-1, 0};
    snprintf(json, sizeof json, "{'name': '%s'}", collection_name(w, 1));
    return change(w, create ? "collection.create" : "collection.drop", json);
}

/* --- looking */

static bool same_text(const msgpack_object *text, int number)
{
    char expected[128];
    text_of(number, expected, sizeof expected);
    return text != NULL && object_is(text, expected);
}

/* What get says about the writer's documents. */
static bool look(writer *w, picture *out)
{
    for (int c = 0; c < COLLECTIONS; c++) {
        char json[PARAMS_MAX];
        client_reply reply;
        int at = snprintf(json, sizeof json, "{'collection': '%s', 'ids': [", collection_name(w, c));
        for (int i = 0; i < IDS; i++) {
            char id[32];
            print_id(w, i, id, sizeof id);
            at += snprintf(json + at, sizeof json - (size_t)at, "%s%s", i > 0 ? ", " : "", id);
            out->slots[c][i] = (slot){-1, 0};
        }
        snprintf(json + at, sizeof json - (size_t)at, "]}");
        out->exists[c] = call(w, "get", json, "NOT_FOUND", &reply);
        if (!out->exists[c])
            continue;
        for (int i = 0; i < IDS; i++) {
            const msgpack_object *doc = &reply.value.via.array.ptr[i];
            if (doc->type != MSGPACK_OBJECT_MAP)
                continue;
            out->slots[c][i].group = (int)object_uint(object_get(object_get(doc, "meta"), "g"), 99);
            for (int n = 0; n < TEXTS && out->slots[c][i].text < 0; n++)
                if (same_text(object_get(doc, "text"), n))
                    out->slots[c][i].text = n;
        }
        client_reply_free(&reply);
    }
    return !w->wrong;
}

/* Whether the hits have the writer's document. */
static bool has_hit(const writer *w, const msgpack_object *hits, int document)
{
    for (uint32_t k = 0; k < hits->via.array.size; k++)
        if (parse_id(w, object_get(&hits->via.array.ptr[k], "id")) == document)
            return true;
    return false;
}

/* The same search again tells whether it is lost or came late. */
static void complain_of_missing(writer *w, const char *json, int document, const msgpack_object *answer)
{
    char detail[256];
    client_reply again;
    const unsigned generation = (unsigned)object_uint(object_get(answer, "generation"), 0);
    if (!call(w, "search", json, NULL, &again))
        return;
    snprintf(detail, sizeof detail, "document %d, by generation %u; again: %s, by generation %u; %.120s", document,
             generation, has_hit(w, object_get(&again.value, "hits"), document) ? "found" : "not found",
             (unsigned)object_uint(object_get(&again.value, "generation"), 0), json);
    client_reply_free(&again);
    complain(w, "acknowledged but not found", detail);
}

static void check_hits(writer *w, int collection, int asked, const msgpack_object *hits)
{
    bool seen[IDS] = {false};
    char detail[128];
    const slot *slots = w->known.slots[collection];
    for (uint32_t k = 0; k < hits->via.array.size; k++) {
        const msgpack_object *hit = &hits->via.array.ptr[k];
        int i = parse_id(w, object_get(hit, "id"));
        if (i < 0)
            continue;
        snprintf(detail, sizeof detail, "document %d of %s", i, collection_name(w, collection));
        if (slots[i].text < 0)
            complain(w, "found although it was deleted", detail);
        else if (!same_text(object_get(hit, "text"), slots[i].text))
            complain(w, "found with another text", detail);
        if (seen[i])
            complain(w, "found twice", detail);
        if (slots[i].text == asked && object_double(object_get(hit, "score"), 0) < 0.9999)
            complain(w, "its vector is not made from its text by this model", detail);
        seen[i] = true;
    }
}

/* Exact search that asks for everything, by the text of one document. */
static bool do_search(writer *w, int collection, int text)
{
    char json[PARAMS_MAX], query[128], filter[64] = "";
    client_reply reply;
    text_of(text, query, sizeof query);
    if (below(w, 3) == 0)
        snprintf(filter, sizeof filter, ", 'filter': {'field': 'o', 'eq': %u}", w->number);
    snprintf(json, sizeof json,
             "{'collection': '%s', 'query': '%s', 'k': %d, 'exact': true, 'log': %s, 'with': ['text']%s}",
             collection_name(w, collection), query, WRITERS * IDS + 10, below(w, 2) == 0 ? "true" : "false", filter);
    if (!call(w, "search", json, NULL, &reply))
        return false;
    const msgpack_object *hits = object_get(&reply.value, "hits");
    check_hits(w, collection, text, hits);
    for (int i = 0; i < IDS && !w->wrong; i++)
        if (w->known.slots[collection][i].text >= 0 && !has_hit(w, hits, i))
            complain_of_missing(w, json, i, &reply.value);
    client_reply_free(&reply);
    return !w->wrong;
}

static bool search_some(writer *w, int collection)
{
    int i = (int)below(w, IDS), text = w->known.slots[collection][i].text;
    return do_search(w, collection, text >= 0 ? text : (int)below(w, TEXTS));
}

static bool step(writer *w)
{
    int collection = w->known.exists[1] ? (int)below(w, 2) : 0;
    w->wanted = w->known;
    w->operations++;
    switch (below(w, 12)) {
    case 0:
    case 1: return do_delete(w, collection);
    case 2: return below(w, 3) == 0 ? do_delete_group(w, collection) : do_delete(w, collection);
    case 3: return below(w, 3) == 0 ? do_create_or_drop(w) : do_upsert(w, collection);
    case 4:
    case 5:
    case 6:
    case 7: return search_some(w, collection);
    default: return do_upsert(w, collection);
    }
}

static void *writer_main(void *argument)
{
    writer *w = argument;
    while (!atomic_load(&resting) && !w->wrong)
        if (!step(w))
            break;
    return NULL;
}

/* After a restart: the operation that was cut off happened, or did not. */
static void settle(writer *w)
{
    picture now;
    memset(&now, 0, sizeof now);
    if (!look(w, &now))
        return;
    if (memcmp(&now, &w->known, sizeof now) != 0 && !(w->unsure && memcmp(&now, &w->wanted, sizeof now) == 0))
        complain(w, "restart", "what is stored is neither before nor after the last operation");
    w->known = now;
    w->unsure = false;
    for (int c = 0; c < COLLECTIONS && !w->wrong; c++)
        for (int i = 0; i < IDS && !w->wrong && now.exists[c]; i += 5)
            do_search(w, c, now.slots[c][i].text >= 0 ? now.slots[c][i].text : 0);
}

/* --- generations change meanwhile */

static char models[2][FILES_PATH_MAX]; /* the model, and one whose weights differ */

/* Two models of the same form that make different vectors. */
static void make_models(void)
{
    sem_error error;
    char path[FILES_PATH_MAX], *bytes;
    size_t size;
    ck_assert_ptr_nonnull(realpath(b.model + strlen("model.path="), models[0]));
    ck_ok(files_join(models[1], &error, "%s/other", testing_folder()));
    ck_ok(files_copy_folder(models[0], models[1], &error));
    ck_ok(files_join(path, &error, "%s/model.safetensors", models[1]));
    ck_ok(files_read(path, 64 << 20, &bytes, &size, &error));
    uint64_t header;
    memcpy(&header, bytes, sizeof header);
    for (size_t at = sizeof header + header; at + sizeof(float) <= size; at += sizeof(float)) {
        float weight;
        memcpy(&weight, bytes + at, sizeof weight);
        weight *= 1.0f + 0.02f * (float)(at / 4 % 7);
        memcpy(bytes + at, &weight, sizeof weight);
    }
    ck_ok(files_write(path, bytes, size, &error));
    free(bytes);
}

static void *jobs_main(void *argument)
{
    writer *w = argument; /* for its connection and its random numbers only */
    while (!atomic_load(&resting) && !w->wrong) {
        char json[FILES_PATH_MAX + 64];
        client_reply reply;
        const char *method = "model.load", *allowed = "ALREADY_EXISTS";
        snprintf(json, sizeof json, "{'path': '%s', 'gate': false}", models[below(w, 2)]);
        uint64_t choice = below(w, 8);
        if (choice < 3) {
            method = "rollback";
            snprintf(json, sizeof json, "{}");
            allowed = "FAILED_PRECONDITION ALREADY_EXISTS UNAVAILABLE"; /* none before; a job; cancelled */
        } else if (choice == 3) {
            method = "job";
            snprintf(json, sizeof json, "{'cancel': true}");
            allowed = "FAILED_PRECONDITION";
        }
        bool answered = call(w, method, json, allowed, &reply);
        if (answered)
            client_reply_free(&reply);
        else if (atomic_load(&dying))
            break;
        else
            usleep(20000);
        w->operations += answered;
    }
    return NULL;
}

/* --- what lies in the storage */

static int entries(const char *folder, const char *prefix)
{
    char path[FILES_PATH_MAX];
    sem_error error;
    ck_ok(files_join(path, &error, "%s/%s", b.storage + strlen("storage.path="), folder));
    DIR *d = opendir(path);
    int count = 0;
    ck_assert_ptr_nonnull(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        count += e->d_name[0] != '.' && strncmp(e->d_name, prefix, strlen(prefix)) == 0;
    closedir(d);
    return count;
}

static void nothing_is_left_over(void)
{
    const msgpack_object *list = box_call(&b, "generations", NULL);
    int alive = 0, current = 0;
    for (size_t i = 0; i < box_count(list); i++) {
        const msgpack_object *state = object_get(box_at(list, i), "state");
        alive += !object_is(state, "retired");
        current += object_is(state, "current");
    }
    ck_assert_int_eq(current, 1);
    ck_assert_int_eq(entries("models", ""), alive);
    ck_assert_int_eq(entries("", "space-"), alive);
}

/* A round: everybody works, then the daemon is killed or asked to end. */
static void play_round(writer *director, unsigned ms, bool killed)
{
    atomic_store(&dying, false);
    atomic_store(&resting, false);
    director->client = box_connect(&b);
    for (int i = 0; i < WRITERS; i++)
        pthread_create(&writers[i].thread, NULL, writer_main, &writers[i]);
    pthread_create(&director->thread, NULL, jobs_main, director);
    usleep(ms * 1000);
    if (killed) {
        atomic_store(&dying, true);
        kill(b.daemon.pid, SIGKILL);
    } else {
        atomic_store(&resting, true);
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
        ck_assert(!writers[i].wrong);
    }
    pthread_join(director->thread, NULL);
    ck_assert(!director->wrong);
    client_close(director->client);
}

/* A job that was cut short goes on after the start; until it has ended, what it makes lies there too. */
static void wait_until_idle(void)
{
    for (int waited = 0; waited < 60000; waited += 20) {
        buffer params = {0};
        const msgpack_object *state = object_get(box_send_on(&b, b.client, "job", &params), "state");
        bool none = b.reply.is_error;
        if (none)
            ck_assert_str_eq(b.reply.code, "NOT_FOUND");
        bool idle = none || (!object_is(state, "queued") && !object_is(state, "running"));
        if (idle)
            return;
        usleep(20000);
    }
    ck_abort_msg("the job did not end within a minute");
}

static void restart(bool killed)
{
    for (int i = 0; i < WRITERS; i++)
        client_close(writers[i].client);
    killed ? box_kill(&b) : box_stop(&b);
    box_start(&b);
    wait_until_idle();
    nothing_is_left_over();
    for (int i = 0; i < WRITERS; i++) {
        writers[i].client = box_connect(&b);
        settle(&writers[i]);
        ck_assert(!writers[i].wrong);
    }
}

START_TEST(random_writes_agree_with_a_reference_through_flips_and_crashes)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    uint64_t seed = testing_seed();
    const char *wanted = getenv("SEMD_TEST_ROUNDS");
    int rounds = wanted != NULL ? atoi(wanted) : ROUNDS;
    writer director = {.box = &b, .number = WRITERS};
    random_seed(&director.random, seed);
    make_models();
    box_start(&b);
    for (unsigned i = 0; i < WRITERS; i++) {
        memset(&writers[i], 0, sizeof writers[i]);
        writers[i].box = &b;
        writers[i].number = i;
        random_seed(&writers[i].random, seed + 1 + i);
        writers[i].client = box_connect(&b);
        writers[i].known.exists[0] = true;
        for (int k = 0; k < COLLECTIONS * IDS; k++)
            writers[i].known.slots[k / IDS][k % IDS] = (slot){-1, 0};
    }
    for (int round = 0; round < rounds; round++) {
        bool killed = round % 3 != 2;
        play_round(&director, 300 + (unsigned)random_below(&director.random, 1200), killed);
        restart(killed);
    }
    size_t operations = 0;
    for (int i = 0; i < WRITERS; i++) {
        operations += writers[i].operations;
        client_close(writers[i].client);
    }
    printf("%zu operations, %zu answers of jobs, %d rounds\n", operations, director.operations, rounds);
    ck_assert_uint_gt(operations, 100);
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("random operations");
    TCase *t = tcase_create("reference");
    tcase_set_timeout(t, 3000);
    tcase_add_test(t, random_writes_agree_with_a_reference_through_flips_and_crashes);
    suite_add_tcase(s, t);
    return testing_run(s);
}
