/* An index measures its recall with what is asked of it. */
#include "tests/daemon/blackbox.h"

#include <unistd.h>

enum { DOCUMENTS = 800, DIFFERENT = 450, KEPT = 400 /* LOGGED_QUERIES_MAX */, PATIENCE = 3000 };

static box b;

static void fill(const char *collection)
{
    buffer params = {0};
    packer p = box_begin_upsert(&params, collection, DOCUMENTS);
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        char text[64];
        int length = snprintf(text, sizeof text, "card %u of account %u", i, i * 7 % 101);
        box_pack_text(&p, i, text, (size_t)length);
    }
    box_call_packed(&b, "upsert", &params);
}

/* What is told of the collection's index, once it was trained. */
static const msgpack_object *trained(const char *collection)
{
    for (int tries = 0; tries < PATIENCE; tries++) {
        const msgpack_object *index = object_get(box_collection(&b, collection), "index");
        if (object_get(index, "trained_at")->type != MSGPACK_OBJECT_NIL)
            return index;
        usleep(20000);
    }
    ck_abort_msg("the index of %s was never trained", collection);
}

static unsigned told(const msgpack_object *index, const char *key)
{
    return (unsigned)object_uint(object_get(index, key), UINT32_MAX);
}

START_TEST(recall_is_measured_with_the_queries_that_were_asked)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    b.options[0] = "index.exact_below=500";
    box_start(&b);
    box_call(&b, "collection.create", "{'name': 'asked'}");
    box_call(&b, "collection.create", "{'name': 'silent'}");
    for (int i = 0; i < DIFFERENT; i++)
        box_call(&b, "search", "{'collection': 'asked', 'query': 'where is card %d?'}", i);
    /* Neither repeats count, nor what was not logged, nor what was asked of another. */
    for (int i = 0; i < 20; i++) {
        box_call(&b, "search", "{'collection': 'asked', 'query': 'where is card 7?'}");
        box_call(&b, "search", "{'collection': 'silent', 'query': 'not logged %d', 'log': false}", i);
    }
    /* Its commit takes the searches with it. */
    fill("asked");
    const msgpack_object *index = trained("asked");
    ck_assert_uint_eq(told(index, "logged_queries"), KEPT);
    ck_assert_uint_ge(told(index, "queries"), KEPT);
    fill("silent");
    index = trained("silent");
    ck_assert_uint_eq(told(index, "logged_queries"), 0);
    ck_assert_uint_gt(told(index, "queries"), 100);
    /* The curve is saved with the lists, and what it was measured with. */
    box_stop(&b);
    box_start(&b);
    ck_assert_uint_eq(told(trained("asked"), "logged_queries"), KEPT);
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("queries");
    TCase *t = tcase_create("queries");
    tcase_set_timeout(t, 200);
    tcase_add_test(t, recall_is_measured_with_the_queries_that_were_asked);
    suite_add_tcase(s, t);
    return testing_run(s);
}
