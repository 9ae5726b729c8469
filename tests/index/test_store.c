#include "tests/index/store_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

START_TEST(documents_survive_a_reopening)
{
    sem_error error;
    uint32_t c;
    uint64_t seq, version;
    bool found;
    float vector[DIM];
    store_write *w;
    store_read *r;
    store_document doc;
    store *s = store_with_collection(&c);
    static const unsigned char meta[] = {0x81, 0xa1, 'a', 1};
    const float v[DIM] = {1, 2, 3, 4};
    store_put puts[2] = {
        {.id = number_id(7), .text = "seven", .text_length = 5, .meta = meta, .meta_length = sizeof meta, .vector = v},
        {.id = string_id("7"), .text = "", .text_length = 0, .vector = v, .second = v}};
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_documents_put(w, c, SPACE, DIM, OTHER_SPACE, DIM, puts, 2, &seq, &error));
    ck_assert_uint_eq(seq, 1);
    ck_assert(!puts[0].existed && !puts[1].existed && puts[0].docno != puts[1].docno);
    ck_ok(store_write_commit(w, &error));
    store_close(s);
    s = open_with(MAP, 0);
    ck_ok(store_read_begin(s, &r, &error));
    docid id = number_id(7);
    ck_ok(store_document_get(r, c, &id, &doc, &found, &error));
    ck_assert(found && doc.seq == 1 && doc.text_version == 1 && doc.docno == puts[0].docno);
    ck_assert_mem_eq(doc.text, "seven", 5);
    ck_assert_uint_eq(doc.meta_length, sizeof meta);
    ck_assert_mem_eq(doc.meta, meta, sizeof meta);
    ck_ok(store_document_by_number(r, c, puts[1].docno, &doc, &found, &error));
    ck_assert(found && !doc.id.is_integer && doc.id.length == 1 && doc.text_length == 0 && doc.meta_length == 0);
    ck_ok(store_vector_get(r, SPACE, c, puts[0].docno, vector, DIM, &version, &found, &error));
    ck_assert(found && version == 1);
    ck_assert_mem_eq(vector, v, sizeof v);
    ck_ok(store_vector_get(r, OTHER_SPACE, c, puts[0].docno, vector, DIM, &version, &found, &error));
    ck_assert(!found);
    ck_ok(store_vector_get(r, OTHER_SPACE, c, puts[1].docno, vector, DIM, &version, &found, &error));
    ck_assert(found);
    ck_fails(store_vector_get(r, SPACE, c, puts[0].docno, vector, DIM - 1, &version, &found, &error),
             SEM_INVALID_ARGUMENT);
    ck_assert_uint_eq(store_last_seq(r), 1);
    store_read_end(r);
    store_close(s);
}
END_TEST

START_TEST(collections_are_created_once)
{
    sem_error error;
    bool created;
    store_write *w;
    store *s = new_store(MAP);
    ck_ok(store_write_begin(s, &w, &error));
    store_collection a = {.name = "a", .lexical = true, .passage_tokens = 9, .passage_overlap = 2}, found;
    store_collection again = a, other = {.name = "a", .lexical = true},
                     outside = {.name = "b", .external = true, .dim = 3, .metric = METRIC_DOT},
                     no_dim = {.name = "c", .external = true}, no_name = {.name = ""};
    ck_ok(store_collection_create(w, &a, &created, &error));
    ck_assert(created);
    ck_ok(store_collection_create(w, &again, &created, &error));
    ck_assert(!created && again.number == a.number);
    ck_fails(store_collection_create(w, &other, &created, &error), SEM_ALREADY_EXISTS);
    ck_fails(store_collection_create(w, &no_dim, &created, &error), SEM_INVALID_ARGUMENT);
    ck_fails(store_collection_create(w, &no_name, &created, &error), SEM_INVALID_ARGUMENT);
    ck_ok(store_collection_create(w, &outside, &created, &error));
    ck_ok(store_collection_find(store_write_view(w), "b", 1, &found, &error));
    ck_assert(found.external && found.dim == 3 && found.metric == METRIC_DOT && !found.lexical);
    ck_fails(store_collection_find(store_write_view(w), "nope", 4, &found, &error), SEM_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, "nope"));
    ck_ok(store_write_commit(w, &error));
    store_close(s);
    s = open_with(MAP, 0);
    store_read *r;
    store_collection *list;
    size_t count;
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(store_collection_list(r, &list, &count, &error));
    ck_assert_uint_eq(count, 2);
    ck_assert_str_eq(list[0].name, "a");
    ck_assert_uint_eq(list[0].passage_overlap, 2);
    ck_assert_str_eq(list[1].name, "b");
    free(list);
    store_read_end(r);
    store_close(s);
}
END_TEST

START_TEST(the_last_of_equal_ids_counts)
{
    sem_error error;
    uint32_t c;
    uint64_t seq;
    bool found;
    store_write *w;
    store_document doc;
    store_collection info;
    float vector[DIM];
    uint64_t version;
    store *s = store_with_collection(&c);
    const float v1[DIM] = {1}, v2[DIM] = {2};
    docid id = number_id(1);
    store_put puts[3] = {{.id = id, .text = "old", .text_length = 3, .vector = v1},
                         {.id = number_id(2), .text = "x", .text_length = 1, .vector = v1},
                         {.id = id, .text = "newer", .text_length = 5, .vector = v2}};
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_documents_put(w, c, SPACE, DIM, 0, 0, puts, 3, &seq, &error));
    ck_assert(!puts[0].repeated && !puts[1].repeated && puts[2].repeated && puts[2].docno == puts[0].docno);
    ck_ok(store_document_get(store_write_view(w), c, &id, &doc, &found, &error));
    ck_assert(found && doc.text_length == 5);
    ck_ok(store_vector_get(store_write_view(w), SPACE, c, puts[0].docno, vector, DIM, &version, &found, &error));
    ck_assert(found && vector[0] == 2.0f);
    ck_ok(store_collection_at(store_write_view(w), c, &info, &error));
    ck_assert_uint_eq(info.documents, 2);
    ck_assert_uint_eq(info.bytes, 6);
    ck_ok(store_write_commit(w, &error));
    store_close(s);
}
END_TEST

START_TEST(text_version_changes_with_text_or_vector_only)
{
    sem_error error;
    uint32_t c;
    uint64_t seq, first;
    uint32_t slot;
    bool found, stored;
    store_write *w;
    store_document doc;
    store *s = store_with_collection(&c);
    const float v[DIM] = {5, 1, 2, 3};
    static const unsigned char meta[] = {0x80};
    docid id = number_id(1);
    ck_ok(store_write_begin(s, &w, &error));
    store_read *view = store_write_view(w);
    ck_ok(put_text(w, c, id, "text", 5, NULL, &first, &error));
    store_put put = {.id = id, .text = "text", .text_length = 4, .vector = v, .meta = meta, .meta_length = 1};
    ck_ok(store_documents_put(w, c, SPACE, DIM, 0, 0, &put, 1, &seq, &error));
    ck_ok(store_document_get(view, c, &id, &doc, &found, &error));
    ck_assert(put.existed && doc.text_version == first && doc.seq == seq && seq == first + 1);
    /* What was embedded from this text may still be stored ... */
    ck_ok(store_vector_put(w, OTHER_SPACE, c, doc.docno, first, v, DIM, &stored, &slot, &error));
    ck_assert(stored);
    ck_ok(put_text(w, c, id, "text", 6, NULL, &seq, &error));
    ck_ok(store_document_get(view, c, &id, &doc, &found, &error));
    ck_assert_uint_eq(doc.text_version, seq);
    /* ... and no more once it changed. */
    ck_ok(store_vector_put(w, OTHER_SPACE, c, doc.docno, first, v, DIM, &stored, &slot, &error));
    ck_assert(!stored);
    ck_ok(put_text(w, c, id, "texts", 6, NULL, &seq, &error));
    ck_ok(store_document_get(view, c, &id, &doc, &found, &error));
    ck_assert_uint_eq(doc.text_version, seq);
    ck_ok(store_vector_put(w, OTHER_SPACE, c, 999, 1, v, DIM, &stored, &slot, &error));
    ck_assert(!stored);
    ck_ok(store_write_commit(w, &error));
    store_close(s);
}
END_TEST

START_TEST(a_document_without_a_vector_keeps_its_own_if_its_text_is_the_same)
{
    sem_error error;
    uint32_t c;
    uint64_t first, seq, version;
    bool found;
    store_write *w;
    store_document doc;
    float vector[DIM];
    store *s = store_with_collection(&c);
    docid id = number_id(1);
    static const unsigned char meta[] = {0x80};
    ck_ok(store_write_begin(s, &w, &error));
    store_read *view = store_write_view(w);
    ck_ok(put_text(w, c, id, "text", 5, NULL, &first, &error));
    store_put put = {.id = id, .text = "text", .text_length = 4, .meta = meta, .meta_length = 1};
    ck_ok(store_documents_put(w, c, SPACE, DIM, 0, 0, &put, 1, &seq, &error));
    ck_assert(put.existed && put.kept);
    ck_ok(store_document_get(view, c, &id, &doc, &found, &error));
    ck_assert(found && doc.text_version == first && doc.seq == seq && doc.meta_length == 1);
    ck_ok(store_vector_get(view, SPACE, c, doc.docno, vector, DIM, &version, &found, &error));
    ck_assert(found && version == first && vector[0] == 5.0f);
    /* Another text, another id and a space that has none are for the caller to embed. */
    put.text = "texT";
    ck_fails(store_documents_put(w, c, SPACE, DIM, 0, 0, &put, 1, &seq, &error), SEM_CANCELLED);
    put.text = "text";
    put.id = number_id(2);
    ck_fails(store_documents_put(w, c, SPACE, DIM, 0, 0, &put, 1, &seq, &error), SEM_CANCELLED);
    put.id = id;
    ck_fails(store_documents_put(w, c, OTHER_SPACE, DIM, 0, 0, &put, 1, &seq, &error), SEM_CANCELLED);
    ck_ok(store_document_get(view, c, &id, &doc, &found, &error));
    ck_assert(found && doc.text_version == first && memcmp(doc.text, "text", 4) == 0);
    ck_ok(store_write_commit(w, &error));
    store_close(s);
}
END_TEST

START_TEST(a_failed_operation_leaves_the_group_as_it_was)
{
    sem_error error;
    uint32_t c;
    uint64_t seq, version;
    bool found;
    store_write *w;
    store_read *r;
    store_document doc;
    float vector[DIM];
    char long_id[DOCID_STRING_MAX + 2];
    memset(long_id, 'x', sizeof long_id - 1);
    long_id[sizeof long_id - 1] = '\0';
    store *s = store_with_collection(&c);
    const float v[DIM] = {9};
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(put_text(w, c, number_id(1), "kept", 1, NULL, NULL, &error));
    store_put puts[3] = {{.id = number_id(1), .text = "lost", .text_length = 4, .vector = v},
                         {.id = number_id(2), .text = "lost", .text_length = 4, .vector = v},
                         {.id = string_id(long_id), .text = "bad", .text_length = 3, .vector = v}};
    ck_fails(store_documents_put(w, c, SPACE, DIM, 0, 0, puts, 3, &seq, &error), SEM_INVALID_ARGUMENT);
    ck_fails(store_documents_put(w, c, SPACE, DIM + 1, 0, 0, puts, 2, &seq, &error), SEM_INVALID_ARGUMENT);
    ck_fails(store_documents_put(w, c, 0, DIM, 0, 0, puts, 2, &seq, &error), SEM_INVALID_ARGUMENT);
    ck_fails(store_documents_put(w, c, 77, DIM, 0, 0, puts, 2, &seq, &error), SEM_NOT_FOUND);
    ck_fails(store_documents_put(w, 99, SPACE, DIM, 0, 0, puts, 2, &seq, &error), SEM_NOT_FOUND);
    puts[1].vector = NULL;
    ck_fails(store_documents_put(w, c, SPACE, DIM, 0, 0, puts, 2, &seq, &error), SEM_CANCELLED);
    ck_ok(put_text(w, c, number_id(3), "also kept", 3, NULL, &seq, &error));
    ck_assert_uint_eq(seq, 2);
    ck_ok(store_write_commit(w, &error));
    ck_ok(store_read_begin(s, &r, &error));
    docid one = number_id(1), two = number_id(2);
    ck_ok(store_document_get(r, c, &one, &doc, &found, &error));
    ck_assert(found && memcmp(doc.text, "kept", 4) == 0);
    ck_ok(store_vector_get(r, SPACE, c, doc.docno, vector, DIM, &version, &found, &error));
    ck_assert(found && vector[0] == 1.0f);
    ck_ok(store_document_get(r, c, &two, &doc, &found, &error));
    ck_assert(!found);
    store_read_end(r);
    store_close(s);
}
END_TEST

START_TEST(an_aborted_group_leaves_nothing)
{
    sem_error error;
    uint32_t c;
    store_write *w;
    store_read *r;
    store_collection info;
    store *s = store_with_collection(&c);
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(put_text(w, c, number_id(1), "lost", 1, NULL, NULL, &error));
    make_collection(w, "lost");
    store_write_abort(w);
    ck_ok(store_read_begin(s, &r, &error));
    ck_fails(store_collection_find(r, "lost", 4, &info, &error), SEM_NOT_FOUND);
    ck_ok(store_collection_at(r, c, &info, &error));
    ck_assert_uint_eq(info.documents, 0);
    ck_assert_uint_eq(store_last_seq(r), 0);
    store_read_end(r);
    store_close(s);
}
END_TEST

typedef struct id_list {
    unsigned char keys[64][DOCID_KEY_MAX];
    size_t lengths[64];
    size_t count, stop;
} id_list;

static bool list_id(void *context, const store_document *doc)
{
    id_list *list = context;
    list->lengths[list->count] = docid_to_key(&doc->id, list->keys[list->count]);
    list->count++;
    return list->count != list->stop;
}

START_TEST(walk_gives_integers_before_strings_in_order)
{
    sem_error error;
    uint32_t c;
    store_write *w;
    store *s = store_with_collection(&c);
    ck_ok(store_write_begin(s, &w, &error));
    uint32_t other = make_collection(w, "other");
    docid ids[] = {string_id("b"),   number_id(300), string_id("10"), number_id(UINT64_MAX),
                   string_id("a b"), number_id(2),   string_id("a"),  string_id("\xc3\xa9")};
    docid sorted[] = {number_id(2),   number_id(300),   number_id(UINT64_MAX), string_id("10"),
                      string_id("a"), string_id("a b"), string_id("b"),        string_id("\xc3\xa9")};
    for (size_t i = 0; i < 8; i++) {
        ck_ok(put_text(w, c, ids[i], "t", 1, NULL, NULL, &error));
        ck_ok(put_text(w, other, ids[i], "t", 1, NULL, NULL, &error));
    }
    id_list list = {.count = 0};
    store_read *view = store_write_view(w);
    ck_ok(store_document_walk(view, c, NULL, 0, list_id, &list, &error));
    ck_assert_uint_eq(list.count, 8);
    for (size_t i = 0; i < 8; i++) {
        unsigned char key[DOCID_KEY_MAX];
        size_t length = docid_to_key(&sorted[i], key);
        ck_assert_uint_eq(length, list.lengths[i]);
        ck_assert_mem_eq(key, list.keys[i], length);
    }
    /* From the middle, and from an id that is not there. */
    id_list rest = {.count = 0, .stop = 2};
    ck_ok(store_document_walk(view, c, list.keys[2], list.lengths[2], list_id, &rest, &error));
    ck_assert_uint_eq(rest.count, 2);
    ck_assert_mem_eq(rest.keys[0], list.keys[3], list.lengths[3]);
    docid between = string_id("aa");
    unsigned char key[DOCID_KEY_MAX];
    size_t length = docid_to_key(&between, key);
    rest = (id_list){.stop = 1};
    ck_ok(store_document_walk(view, c, key, length, list_id, &rest, &error));
    ck_assert_mem_eq(rest.keys[0], list.keys[6], list.lengths[6]);
    /* The empty collection behind these has none. */
    uint32_t empty = make_collection(w, "empty");
    rest = (id_list){.stop = 1};
    ck_ok(store_document_walk(view, empty, NULL, 0, list_id, &rest, &error));
    ck_assert_uint_eq(rest.count, 0);
    store_write_abort(w);
    store_close(s);
}
END_TEST

typedef struct change_list {
    struct {
        uint64_t seq;
        uint32_t collection, docno;
        bool removed;
    } items[64];
    size_t count;
} change_list;

static bool list_change(void *context, uint64_t seq, uint32_t collection, uint32_t docno, bool removed)
{
    change_list *list = context;
    list->items[list->count].seq = seq;
    list->items[list->count].collection = collection;
    list->items[list->count].docno = docno;
    list->items[list->count++].removed = removed;
    return true;
}

START_TEST(log_tells_what_each_request_touched)
{
    sem_error error;
    uint32_t c, docnos[4];
    uint64_t seq;
    size_t deleted;
    store_write *w;
    store *s = store_with_collection(&c);
    const float v[DIM] = {1};
    store_put puts[3] = {{.id = number_id(1), .text = "a", .text_length = 1, .vector = v},
                         {.id = number_id(2), .text = "b", .text_length = 1, .vector = v},
                         {.id = number_id(1), .text = "c", .text_length = 1, .vector = v}};
    docid ids[4] = {number_id(2), number_id(9), number_id(2), number_id(1)};
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(store_documents_put(w, c, SPACE, DIM, 0, 0, puts, 3, &seq, &error));
    ck_ok(store_documents_delete(w, c, ids, 4, docnos, &deleted, &seq, &error));
    ck_assert(deleted == 2 && seq == 2 && docnos[0] == puts[1].docno && docnos[1] == puts[0].docno);
    ck_ok(store_documents_delete(w, c, ids, 4, docnos, &deleted, &seq, &error));
    ck_assert(deleted == 0 && seq == 3);
    ck_ok(put_text(w, c, number_id(1), "d", 1, &puts[2], &seq, &error));
    ck_assert(seq == 4 && !puts[2].existed && puts[2].docno != puts[0].docno);
    change_list list = {.count = 0};
    store_read *view = store_write_view(w);
    ck_ok(store_log_walk(view, 0, list_change, &list, &error));
    ck_assert_uint_eq(list.count, 5);
    ck_assert(list.items[0].seq == 1 && list.items[0].docno == puts[0].docno && !list.items[0].removed);
    ck_assert(list.items[1].seq == 1 && list.items[1].docno == puts[1].docno && list.items[1].collection == c);
    ck_assert(list.items[2].seq == 2 && list.items[2].docno == puts[1].docno && list.items[2].removed);
    ck_assert(list.items[3].seq == 2 && list.items[3].docno == puts[0].docno && list.items[3].removed);
    ck_assert(list.items[4].seq == 4 && !list.items[4].removed);
    list.count = 0;
    ck_ok(store_log_walk(view, 2, list_change, &list, &error));
    ck_assert_uint_eq(list.count, 1);
    ck_ok(store_log_trim(w, 1, &error));
    list.count = 0;
    ck_ok(store_log_walk(view, 0, list_change, &list, &error));
    ck_assert(list.count == 3 && list.items[0].seq == 2);
    ck_ok(store_log_trim(w, UINT64_MAX, &error));
    list.count = 0;
    ck_ok(store_log_walk(view, 0, list_change, &list, &error));
    ck_assert_uint_eq(list.count, 0);
    ck_ok(store_write_commit(w, &error));
    store_close(s);
}
END_TEST

/* --- reads beside the writer */

typedef struct reading {
    store *s;
    uint32_t collection;
    atomic_bool *stop;
    size_t reads;
} reading;

static bool check_document(void *context, const store_document *doc)
{
    store_document *out = context;
    *out = *doc;
    return false;
}

static void *read_documents(void *context)
{
    reading *job = context;
    sem_error error;
    store_read *r;
    ck_ok(store_read_begin(job->s, &r, &error));
    while (!*job->stop) {
        store_document doc = {.text_length = 0};
        bool found;
        uint64_t version;
        float vector[DIM];
        ck_ok(store_read_renew(r, &error));
        ck_ok(store_document_walk(r, job->collection, NULL, 0, check_document, &doc, &error));
        if (doc.text_length == 0)
            continue;
        ck_ok(store_vector_get(r, SPACE, job->collection, doc.docno, vector, DIM, &version, &found, &error));
        ck_assert_msg(found, "a document without its vector");
        char text[16] = {0};
        memcpy(text, doc.text, doc.text_length);
        ck_assert_int_eq(atoi(text), (int)vector[0]);
        ck_assert_uint_eq(version, doc.text_version);
        job->reads++;
    }
    store_read_end(r);
    return NULL;
}

START_TEST(readers_see_whole_documents_while_one_writes)
{
    sem_error error;
    uint32_t c;
    atomic_bool stop = false;
    pthread_t threads[3];
    reading jobs[3];
    store *s = store_with_collection(&c);
    for (int i = 0; i < 3; i++) {
        jobs[i] = (reading){.s = s, .collection = c, .stop = &stop};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, read_documents, &jobs[i]), 0);
    }
    for (int i = 1; i <= 300; i++) {
        char text[16];
        store_write *w;
        uint32_t docnos[1];
        size_t deleted;
        uint64_t seq;
        docid id = number_id(1);
        snprintf(text, sizeof text, "%d", i);
        ck_ok(store_write_begin(s, &w, &error));
        if (i % 7 == 0)
            ck_ok(store_documents_delete(w, c, &id, 1, docnos, &deleted, &seq, &error));
        ck_ok(put_text(w, c, id, text, (float)i, NULL, NULL, &error));
        ck_ok(store_write_commit(w, &error));
    }
    stop = true;
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_uint_gt(jobs[i].reads, 0);
    }
    store_close(s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store");
    TCase *tests = tcase_create("store");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, documents_survive_a_reopening);
    tcase_add_test(tests, collections_are_created_once);
    tcase_add_test(tests, the_last_of_equal_ids_counts);
    tcase_add_test(tests, text_version_changes_with_text_or_vector_only);
    tcase_add_test(tests, a_document_without_a_vector_keeps_its_own_if_its_text_is_the_same);
    tcase_add_test(tests, a_failed_operation_leaves_the_group_as_it_was);
    tcase_add_test(tests, an_aborted_group_leaves_nothing);
    tcase_add_test(tests, walk_gives_integers_before_strings_in_order);
    tcase_add_test(tests, log_tells_what_each_request_touched);
    tcase_add_test(tests, readers_see_whole_documents_while_one_writes);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
