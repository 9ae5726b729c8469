/* What was acknowledged is there after kill -9, at whatever moment it comes. */
#include "tests/daemon/blackbox.h"

#include "base/random.h"

#include <unistd.h>

enum { ROUNDS = 200, IN_FLIGHT = 8, DOCS_A_REQUEST = 3, CHECK_BATCH = 500, DOCS_MAX = 100000 };

static bool acknowledged[DOCS_MAX];
static uint32_t first_of[1 << 16]; /* first document of each request of the round, by msgid */
static unsigned next_doc;

static void send_some(box *b)
{
    buffer params = {0};
    packer p = box_begin_upsert(&params, NULL, DOCS_A_REQUEST);
    unsigned first = next_doc;
    for (unsigned i = 0; i < DOCS_A_REQUEST; i++, next_doc++) {
        char text[64];
        int length = snprintf(text, sizeof text, "document %u of the crash test", next_doc);
        box_pack_text(&p, next_doc, text, (size_t)length);
    }
    ck_assert_uint_lt(next_doc, DOCS_MAX);
    uint32_t msgid = box_send_packed(b->client, "upsert", &params);
    ck_assert_uint_lt(msgid, 1 << 16);
    first_of[msgid] = first;
}

/* Takes one answer; false when the connection is gone. */
static bool take_answer(box *b)
{
    sem_error error;
    client_reply reply;
    if (client_receive(b->client, BOX_TIMEOUT_MS, &reply, &error) != SEM_OK)
        return false;
    ck_assert_msg(!reply.is_error, "upsert: %s", reply.code);
    for (unsigned i = 0; i < DOCS_A_REQUEST; i++)
        acknowledged[first_of[reply.msgid] + i] = true;
    client_reply_free(&reply);
    return true;
}

static unsigned missing_of(box *b, const unsigned *ids, unsigned count)
{
    buffer params = {0};
    packer p;
    unsigned missing = 0;
    pack_init(&p, &params);
    pack_array(&p, 1);
    pack_map(&p, 1);
    pack_str(&p, "ids");
    pack_array(&p, count);
    for (unsigned i = 0; i < count; i++)
        pack_uint(&p, ids[i]);
    const msgpack_object *docs = box_call_packed(b, "get", &params);
    for (unsigned i = 0; i < count; i++)
        missing += box_at(docs, i)->type == MSGPACK_OBJECT_NIL;
    return missing;
}

static unsigned all_missing(box *b)
{
    unsigned ids[CHECK_BATCH], count = 0, missing = 0;
    for (unsigned i = 0; i <= next_doc; i++) {
        if (i < next_doc && acknowledged[i])
            ids[count++] = i;
        if (count == CHECK_BATCH || (i == next_doc && count > 0)) {
            missing += missing_of(b, ids, count);
            count = 0;
        }
    }
    return missing;
}

START_TEST(acknowledged_write_survives_kill)
{
    box b;
    random_state r;
    random_seed(&r, testing_seed());
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    for (int round = 0; round < ROUNDS; round++) {
        box_start(&b);
        for (int i = 0; i < IN_FLIGHT; i++)
            send_some(&b);
        for (uint64_t answers = random_below(&r, 12); answers > 0; answers--) {
            ck_assert(take_answer(&b));
            send_some(&b);
        }
        usleep((unsigned)random_below(&r, 8000));
        kill(b.daemon.pid, SIGKILL);
        while (take_answer(&b)) /* what was answered before the end counts */
            ;
        box_kill(&b);
    }
    box_start(&b);
    unsigned known = 0;
    for (unsigned i = 0; i < next_doc; i++)
        known += acknowledged[i];
    printf("%u documents sent, %u acknowledged, in %d rounds\n", next_doc, known, ROUNDS);
    ck_assert_uint_gt(known, ROUNDS);
    ck_assert_uint_eq(all_missing(&b), 0);
    /* And search finds them, through an index that was filled at the start. */
    for (unsigned i = 0, tried = 0; i < next_doc && tried < 50; i += 37) {
        if (!acknowledged[i])
            continue;
        const msgpack_object *hits = object_get(
            box_call(&b, "search", "{'query': 'document %u of the crash test', 'k': 3, 'exact': true}", i), "hits");
        ck_assert_double_eq_tol(object_double(object_get(box_at(hits, 0), "score"), 0), 1.0, 1e-4);
        tried++;
    }
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("kill -9");
    TCase *t = tcase_create("upserts");
    tcase_set_timeout(t, 600);
    tcase_add_test(t, acknowledged_write_survives_kill);
    suite_add_tcase(s, t);
    return testing_run(s);
}
