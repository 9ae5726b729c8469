/* What goes from the log, what stays, and the file that is written anew without it. */
#include "tests/index/events_fixture.h"

#include "index/events_upkeep.h"
#include "index/verify.h"

#include <pthread.h>
#include <stdatomic.h>

static sem_error error;

/* --- short ways */

static events_due due(store *s, const events_rule *rule, uint64_t after)
{
    store_read *r;
    events_due out;
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(events_find_due(r, rule, after, &out, &error));
    store_read_end(r);
    return out;
}

static uint64_t remove_these(store *s, const events_rule *rule, const events_due *d)
{
    store_write *w;
    uint64_t removed;
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(events_remove_due(w, rule, d, &removed, &error));
    ck_ok(store_write_commit(w, &error));
    return removed;
}

/* All that the rule names; how many went. */
static uint64_t remove_all(store *s, events_rule rule)
{
    uint64_t removed = 0, after = 0;
    events_due d;
    do {
        d = due(s, &rule, after);
        removed += remove_these(s, &rule, &d);
        after = d.last;
    } while (d.more);
    return removed;
}

typedef struct counts {
    uint64_t now, ever;
} counts;

static counts count(store *s)
{
    store_read *r;
    counts c;
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(events_judgement_count(r, &c.now, &error));
    ck_ok(events_judgements_ever(r, &c.ever, &error));
    store_read_end(r);
    return c;
}

static void found(void *context, const char *text)
{
    (void)context;
    ck_abort_msg("%s", text);
}

/* Closes the store, has all of it checked, and opens it again. */
static store *checked(store *s)
{
    verify_result result;
    const verify_options options = {.path = store_folder(), .found = found};
    store_close(s);
    ck_ok(store_verify(&options, &result, &error));
    ck_assert_uint_eq(result.violations, 0);
    return open_with(MAP, 0);
}

static sem_status no_step(void *context, sem_error *err)
{
    (void)context, (void)err;
    return SEM_OK;
}

/* With `more` logged between the snapshot and the end, if it is given. Returns what the removal of the old file came to. */
static sem_status rewrite_and_end(store *s, void (*more)(store *s))
{
    events_rewrite *e;
    store_read *r;
    store_write *w;
    uint64_t copied;
    ck_ok(events_rewrite_begin(&e, s, no_step, NULL, &error));
    if (more != NULL)
        more(s);
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(events_rewrite_follow(e, r, &copied, &error));
    store_read_end(r);
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(events_rewrite_follow(e, store_write_view(w), &copied, &error));
    ck_ok(store_write_commit(w, &error));
    ck_ok(events_rewrite_finish(e, &error));
    return events_rewrite_end(e, &error);
}

static void rewrite(store *s, void (*more)(store *s))
{
    ck_ok(rewrite_and_end(s, more));
    ck_assert(!events_rewrite_left(s));
}

/* How often the bytes stand in the file. */
static size_t times_in(const char *name, const char *text)
{
    char *data;
    size_t size, times = 0, length = strlen(text);
    ck_ok(files_read(below_store(name), (size_t)1 << 30, &data, &size, &error));
    for (char *at = data; (at = memmem(at, size - (size_t)(at - data), text, length)) != NULL; at += length)
        times++;
    free(data);
    return times;
}

static bool exists(const char *name)
{
    return access(below_store(name), F_OK) == 0;
}

/* --- what is too old */

START_TEST(old_events_go_and_a_search_stays_with_its_last_click)
{
    store_write *w;
    store *s = new_store(MAP);
    ck_ok(store_write_begin(s, &w, &error));
    log_put(w, "old", "o", 0, LOG_NOW - 3000);                /* 1 */
    log_put(w, "clicked", "c", 0, LOG_NOW - 3000);            /* 2 */
    log_put(w, "gone", "g", 0, LOG_NOW - 3000);               /* 3 */
    log_click(w, "clicked", number_id(7), LOG_NOW - 2500);    /* 4 */
    log_click(w, "gone", number_id(9), LOG_NOW - 2500);       /* 5 */
    log_feedback(w, "f", number_id(7), NULL, LOG_NOW - 2400); /* 6 */
    log_click(w, "clicked", number_id(9), LOG_NOW - 1000);    /* 7 */
    log_put(w, "young", "y", 0, LOG_NOW - 1000);              /* 8 */
    log_feedback(w, "f", number_id(7), NULL, LOG_NOW - 1000); /* 9 */
    ck_ok(store_write_commit(w, &error));
    ck_assert(count(s).now == 5 && count(s).ever == 5);
    const events_rule rule = {.kind = EVENTS_OLDER, .before_ms = LOG_NOW - 2000};
    const events_due d = due(s, &rule, 0);
    ck_assert(d.count == 3 && d.seqs[0] == 1 && d.seqs[1] == 3 && d.seqs[2] == 6 && d.old == 6 && !d.more);
    ck_assert_uint_eq(remove_these(s, &rule, &d), 4);
    ck_assert_str_eq(log_all(s).text, "2+-3000 1 clicked 'c' c4 g3 by0 r1 u0 n3: 7=0.75 \"7\"=0.50 9=0.25\n"
                                      "4+-2500 2 clicked 7 rank1 w1.0\n"
                                      "7+-1000 2 clicked 9 rank3 w1.0\n"
                                      "8+-1000 1 young 'y' c4 g3 by0 r1 u0 n3: 7=0.75 \"7\"=0.50 9=0.25\n"
                                      "9+-1000 4 'f' 7 c4 text'' 1\n");
    ck_assert(count(s).now == 3 && count(s).ever == 5);
    s = checked(s);
    /* What is gone is not found any more, and what stays still takes clicks. */
    const docid seven = number_id(7);
    ck_ok(store_write_begin(s, &w, &error));
    ck_fails(events_put_click(w, "old", 3, &seven, 1, LOG_NOW, LOG_WINDOW, &error), SEM_NOT_FOUND);
    ck_ok(events_put_click(w, "clicked", 7, &seven, 1, LOG_NOW, LOG_WINDOW, &error));
    ck_ok(store_write_commit(w, &error));
    ck_assert(count(s).now == 3 && count(s).ever == 5);
    ck_assert_uint_eq(remove_all(s, (events_rule){.kind = EVENTS_OLDER, .before_ms = LOG_NOW + 1}), 5);
    ck_assert(count(s).now == 0 && count(s).ever == 5 && log_all(s).count == 0);
    store_close(checked(s));
}
END_TEST

START_TEST(a_click_that_comes_between_the_look_and_the_removal_keeps_its_search)
{
    store_write *w;
    store *s = new_store(MAP);
    ck_ok(store_write_begin(s, &w, &error));
    log_put(w, "a", "a", 0, LOG_NOW - 3000);
    ck_ok(store_write_commit(w, &error));
    const events_rule rule = {.kind = EVENTS_OLDER, .before_ms = LOG_NOW - 2000};
    const events_due d = due(s, &rule, 0);
    ck_assert_uint_eq(d.count, 1);
    ck_ok(store_write_begin(s, &w, &error));
    log_click(w, "a", number_id(7), LOG_NOW);
    ck_ok(store_write_commit(w, &error));
    ck_assert_uint_eq(remove_these(s, &rule, &d), 0);
    ck_assert_uint_eq(log_all(s).count, 2);
    store_close(checked(s));
}
END_TEST

START_TEST(the_oldest_go_first_for_room)
{
    enum { SEARCHES = 2000 };
    store_write *w;
    store *s = new_store(MAP);
    char id[16];
    ck_ok(store_write_begin(s, &w, &error));
    for (int i = 0; i < SEARCHES; i++) {
        snprintf(id, sizeof id, "q%d", i);
        log_put(w, id, "some query or other", 0, LOG_NOW + i);
        if (i % 3 == 0)
            log_click(w, id, number_id(9), LOG_NOW + i);
    }
    ck_ok(store_write_commit(w, &error));
    events_size before, after;
    events_measure(s, &before);
    ck_assert_uint_ge(before.file, before.used);
    const events_rule rule = {.kind = EVENTS_OLDEST, .bytes = UINT64_MAX}, few = {.kind = EVENTS_OLDEST, .bytes = 2000};
    const events_due d = due(s, &rule, 0);
    ck_assert(d.count == EVENTS_DUE_MAX && d.more && d.seqs[0] == 1);
    const events_due first_few = due(s, &few, 0);
    ck_assert(first_few.count > 5 && first_few.count < 25 && first_few.more);
    ck_assert_uint_gt(remove_these(s, &rule, &d), EVENTS_DUE_MAX);
    empty_group(s);
    events_measure(s, &after);
    ck_assert_uint_lt(after.used, before.used);
    listed first = log_list(s, 0, EVENT_SEARCH, LOG_PLENTY, 1);
    snprintf(id, sizeof id, " q%d ", EVENTS_DUE_MAX);
    ck_assert_ptr_nonnull(strstr(first.text, id));
    store_close(checked(s));
}
END_TEST

/* --- what is erased */

START_TEST(a_users_searches_go_with_their_clicks)
{
    store_write *w;
    store *s = new_store(MAP);
    ck_ok(store_write_begin(s, &w, &error));
    log_put(w, "a", "mine", 11, LOG_NOW);
    log_put(w, "b", "another's", 12, LOG_NOW);
    log_put(w, "c", "nobody's", 0, LOG_NOW);
    log_click(w, "a", number_id(7), LOG_NOW);
    log_click(w, "b", number_id(7), LOG_NOW);
    log_feedback(w, "f", number_id(7), NULL, LOG_NOW);
    ck_ok(store_write_commit(w, &error));
    ck_assert_uint_eq(remove_all(s, (events_rule){.kind = EVENTS_OF_USER, .user_hash = 11}), 2);
    listed left = log_all(s);
    ck_assert(left.count == 4 && strstr(left.text, "mine") == NULL && strstr(left.text, "another's") != NULL);
    ck_assert(count(s).now == 2 && count(s).ever == 3);
    ck_assert_uint_eq(remove_all(s, (events_rule){.kind = EVENTS_OF_USER, .user_hash = 13}), 0);
    store_close(checked(s));
}
END_TEST

START_TEST(a_document_leaves_an_empty_place_and_takes_what_is_about_it)
{
    store_write *w;
    store *s = new_store(MAP);
    ck_ok(store_write_begin(s, &w, &error));
    log_put(w, "a", "a", 0, LOG_NOW);                              /* 1 */
    log_put_other(w, "like", QUERY_LIKE, number_id(7), LOG_NOW);   /* 2 */
    log_put_other(w, "vector", QUERY_VECTOR, (docid){0}, LOG_NOW); /* 3 */
    log_click(w, "a", number_id(7), LOG_NOW);                      /* 4 */
    log_click(w, "a", string_id("7"), LOG_NOW);                    /* 5 */
    log_click(w, "like", number_id(9), LOG_NOW);                   /* 6 */
    log_feedback(w, "f", number_id(7), NULL, LOG_NOW);             /* 7 */
    log_feedback(w, "f", string_id("7"), NULL, LOG_NOW);           /* 8 */
    log_feedback(w, "f", (docid){0}, "7", LOG_NOW);                /* 9 */
    ck_ok(store_write_commit(w, &error));
    const events_rule seven = {.kind = EVENTS_OF_DOCUMENT, .id = number_id(7)};
    ck_assert_uint_eq(remove_all(s, seven), 5);
    ck_assert_str_eq(log_all(s).text, "1+0 1 a 'a' c4 g3 by0 r1 u0 n3: - \"7\"=0.50 9=0.25\n"
                                      "3+0 1 vector c4 g3 by1 r1 u0 n1: 9=0.75\n"
                                      "5+0 2 a \"7\" rank2 w1.0\n"
                                      "8+0 4 'f' \"7\" c4 text'' 1\n"
                                      "9+0 4 'f' c4 text'7' 1\n");
    ck_assert(count(s).now == 3 && count(s).ever == 5);
    ck_assert_uint_eq(remove_all(s, seven), 0);
    s = checked(s);
    /* The last document that a search showed takes the search with it; a click on another is left alone. */
    ck_assert_uint_eq(remove_all(s, (events_rule){.kind = EVENTS_OF_DOCUMENT, .id = number_id(9)}), 2);
    ck_assert_uint_eq(remove_all(s, (events_rule){.kind = EVENTS_OF_DOCUMENT, .id = string_id("7")}), 3);
    ck_assert_str_eq(log_all(s).text, "9+0 4 'f' c4 text'7' 1\n");
    ck_assert(count(s).now == 1 && count(s).ever == 5);
    store_close(checked(s));
}
END_TEST

static bool see_shown(void *context, const event_logged_search *search)
{
    ck_assert(search->shown_count == 3 && search->shown[0].erased && !search->shown[1].erased);
    ck_assert(!search->shown[0].clicked && !search->shown[1].clicked && search->shown[2].clicked);
    ++*(size_t *)context;
    return true;
}

static bool see_above(void *context, const event_judgement *j)
{
    event_above above = j->above;
    docid id;
    ck_assert(j->rank == 3 && j->shown_count == 3);
    ck_assert(event_above_next(&above, &id) && !id.is_integer && id.length == 1);
    ck_assert(!event_above_next(&above, &id));
    ++*(size_t *)context;
    return true;
}

START_TEST(training_passes_over_empty_places)
{
    store_write *w;
    store_read *r;
    size_t seen = 0;
    store *s = new_store(MAP);
    ck_ok(store_write_begin(s, &w, &error));
    log_put(w, "a", "a", 0, LOG_NOW);
    log_click(w, "a", number_id(9), LOG_NOW);
    ck_ok(store_write_commit(w, &error));
    ck_assert_uint_eq(remove_all(s, (events_rule){.kind = EVENTS_OF_DOCUMENT, .id = number_id(7)}), 1);
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(events_searches(r, see_shown, &seen, &error));
    ck_ok(events_judgements(r, 0, see_above, &seen, &error));
    store_read_end(r);
    ck_assert_uint_eq(seen, 2);
    store_close(s);
}
END_TEST

START_TEST(erasing_by_age_asks_for_no_click)
{
    store_write *w;
    store *s = new_store(MAP);
    ck_ok(store_write_begin(s, &w, &error));
    log_put(w, "a", "a", 0, LOG_NOW - 10);
    log_put(w, "b", "b", 0, LOG_NOW);
    log_click(w, "a", number_id(7), LOG_NOW + 10);
    log_feedback(w, "f", number_id(7), NULL, LOG_NOW - 5);
    ck_ok(store_write_commit(w, &error));
    ck_assert_uint_eq(remove_all(s, (events_rule){.kind = EVENTS_BEFORE, .before_ms = LOG_NOW}), 3);
    ck_assert(log_all(s).count == 1 && strstr(log_all(s).text, " b ") != NULL);
    store_close(checked(s));
}
END_TEST

/* --- the file */

static const char SECRET[] = "the-secret-words-of-somebody";

/* So much of it that its records lie on many pages, some of which are used again. */
static store *store_with_secrets(void)
{
    enum { ROUNDS = 20, SEARCHES = 40 };
    store_write *w;
    store *s = new_store(MAP);
    char id[32], text[300];
    for (int round = 0; round < ROUNDS; round++) {
        ck_ok(store_write_begin(s, &w, &error));
        for (int i = 0; i < SEARCHES; i++) {
            bool secret = i % 2 == 0;
            snprintf(id, sizeof id, "q%d-%d", round, i);
            snprintf(text, sizeof text, "%s %0*d", secret ? SECRET : "ordinary words", i * 5 + 1, i);
            log_put(w, id, text, secret ? 66 : 77, LOG_NOW);
            if (i % 5 == 0)
                log_click(w, id, number_id(9), LOG_NOW);
        }
        ck_ok(store_write_commit(w, &error));
    }
    return s;
}

static void log_more(store *s)
{
    store_write *w;
    ck_ok(store_write_begin(s, &w, &error));
    log_put(w, "later", "later", 77, LOG_NOW);
    log_click(w, "later", number_id(7), LOG_NOW);
    log_click(w, "q0-5", number_id(9), LOG_NOW + 1); /* one that is in the copy is replaced */
    log_feedback(w, "later", number_id(9), NULL, LOG_NOW);
    log_click(w, "later", number_id(7), LOG_NOW + 2);
    ck_ok(store_write_commit(w, &error));
}

START_TEST(what_was_erased_is_nowhere_in_the_file_written_anew)
{
    store_write *w;
    store_read *r;
    bool noted;
    store *s = store_with_secrets();
    ck_assert_uint_gt(times_in("events/data.mdb", SECRET), 100);
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(events_note_erased(w, &error));
    ck_ok(store_write_commit(w, &error));
    ck_assert_uint_gt(remove_all(s, (events_rule){.kind = EVENTS_OF_USER, .user_hash = 66}), 400);
    ck_assert_uint_gt(times_in("events/data.mdb", SECRET), 0); /* which is why it is written anew */
    listed before = log_list(s, 0, LOG_ALL, LOG_PLENTY, 50);
    counts judgements = count(s);
    rewrite(s, NULL);
    ck_assert_uint_eq(times_in("events/data.mdb", SECRET), 0);
    ck_assert(!exists("events.new") && !exists("events.old"));
    ck_assert_str_eq(log_list(s, 0, LOG_ALL, LOG_PLENTY, 50).text, before.text);
    ck_assert(count(s).now == judgements.now && count(s).ever == judgements.ever);
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(events_erased_noted(r, &noted, &error));
    store_read_end(r);
    ck_assert(!noted);
    store_close(checked(s));
}
END_TEST

START_TEST(what_is_logged_meanwhile_is_in_the_new_file)
{
    store *s = store_with_secrets();
    size_t before = log_all(s).count;
    rewrite(s, log_more);
    listed all = log_all(s);
    ck_assert_uint_eq(all.count, before + 3);
    ck_assert_ptr_nonnull(strstr(log_list(s, all.last - 6, LOG_ALL, LOG_PLENTY, LOG_PLENTY).text, " later 7 rank1"));
    s = checked(s); /* numbers go on where they were */
    store_write *w;
    ck_ok(store_write_begin(s, &w, &error));
    log_feedback(w, "again", number_id(9), NULL, LOG_NOW);
    ck_ok(store_write_commit(w, &error));
    ck_assert_uint_eq(log_all(s).last, all.last + 1);
    store_close(s);
}
END_TEST

START_TEST(a_read_that_began_before_ends_in_the_old_file)
{
    store_read *r;
    uint64_t last;
    bool more;
    store *s = store_with_secrets();
    listed before = {.stop = LOG_PLENTY}, again = {.stop = LOG_PLENTY};
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(events_list(r, 0, LOG_ALL, LOG_PLENTY, listed_one, &before, &last, &more, &error));
    rewrite(s, log_more);
    rewrite(s, NULL);
    ck_ok(events_list(r, 0, LOG_ALL, LOG_PLENTY, listed_one, &again, &last, &more, &error));
    ck_assert_uint_eq(again.count, before.count);
    ck_ok(store_read_renew(r, &error));
    again = (listed){.stop = LOG_PLENTY};
    ck_ok(events_list(r, 0, LOG_ALL, LOG_PLENTY, listed_one, &again, &last, &more, &error));
    ck_assert_uint_eq(again.count, before.count + 3);
    store_read_end(r);
    store_close(checked(s));
}
END_TEST

/* The linker puts this in the place of the function that removes folders. */
static bool removing_fails;
sem_status __real_files_remove_folder(const char *path, sem_error *err);
sem_status __wrap_files_remove_folder(const char *path, sem_error *err);

sem_status __wrap_files_remove_folder(const char *path, sem_error *err)
{
    return removing_fails ? sem_fail(err, SEM_INTERNAL, "cannot remove %s", path)
                          : __real_files_remove_folder(path, err);
}

START_TEST(an_old_file_that_cannot_be_removed_is_told_and_goes_with_the_next)
{
    store *s = store_with_secrets();
    listed before = log_all(s);
    removing_fails = true;
    ck_assert_int_eq(rewrite_and_end(s, NULL), SEM_INTERNAL);
    removing_fails = false;
    ck_assert(events_rewrite_left(s) && exists("events.old"));
    ck_assert_uint_eq(log_all(s).count, before.count);
    rewrite(s, NULL);
    ck_assert(!exists("events.old"));
    ck_assert_uint_eq(log_all(s).count, before.count);
    store_close(checked(s));
}
END_TEST

START_TEST(a_rewriting_that_is_given_up_changes_nothing)
{
    events_rewrite *e;
    store *s = store_with_secrets();
    listed before = log_all(s);
    ck_ok(events_rewrite_begin(&e, s, no_step, NULL, &error));
    ck_assert(exists("events.new"));
    ck_ok(events_rewrite_end(e, &error));
    ck_assert(!exists("events.new"));
    ck_assert_uint_eq(log_all(s).count, before.count);
    store_close(checked(s));
}
END_TEST

typedef struct readers {
    store *s;
    atomic_bool stop;
    atomic_uint_fast64_t reads;
} readers;

static void *read_all_the_time(void *context)
{
    readers *all = context;
    sem_error err;
    while (!atomic_load(&all->stop)) {
        store_read *r;
        uint64_t now, ever;
        if (store_read_begin(all->s, &r, &err) != SEM_OK)
            return context;
        bool right = events_judgement_count(r, &now, &err) == SEM_OK &&
                     events_judgements_ever(r, &ever, &err) == SEM_OK;
        store_read_end(r);
        if (!right || now != ever)
            return context;
        atomic_fetch_add(&all->reads, 1);
    }
    return NULL;
}

START_TEST(readers_go_on_while_files_change_places)
{
    enum { READERS = 3, REWRITES = 20 };
    pthread_t threads[READERS];
    store *s = store_with_secrets();
    readers all = {.s = s};
    for (int i = 0; i < READERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, read_all_the_time, &all), 0);
    for (int i = 0; i < REWRITES; i++)
        rewrite(s, i == 0 ? log_more : NULL);
    while (atomic_load(&all.reads) < 100)
        usleep(1000);
    atomic_store(&all.stop, true);
    for (int i = 0; i < READERS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        ck_assert_ptr_null(failed);
    }
    store_check_readers(s);
    store_close(checked(s));
}
END_TEST

/* --- crashes: what lies there when the process ends between two steps */

static void rename_below(const char *from, const char *to)
{
    char path[FILES_PATH_MAX];
    snprintf(path, sizeof path, "%s", below_store(from));
    ck_assert_int_eq(rename(path, below_store(to)), 0);
}

/* The log with secrets in events.old, and the one without them, but with what came later, in events. */
static size_t two_logs(void)
{
    char copy[FILES_PATH_MAX];
    store *s = store_with_secrets();
    store_close(s);
    snprintf(copy, sizeof copy, "%s", below_store("kept"));
    ck_ok(files_copy_folder(below_store("events"), copy, &error));
    s = open_with(MAP, 0);
    ck_assert_uint_gt(remove_all(s, (events_rule){.kind = EVENTS_OF_USER, .user_hash = 66}), 0);
    rewrite(s, NULL);
    size_t left = log_all(s).count;
    store_close(s);
    rename_below("kept", "events.old");
    return left;
}

static void ck_opens_with(size_t events)
{
    store *s = open_with(MAP, 0);
    ck_assert(!exists("events.new") && !exists("events.old") && exists("events/data.mdb"));
    ck_assert_uint_eq(log_all(s).count, events);
    store_close(checked(s));
}

START_TEST(a_crash_before_the_change_leaves_the_old_file)
{
    size_t left = two_logs();
    rename_below("events", "events.new"); /* whole or not, it has not become the log */
    rename_below("events.old", "events");
    store *s = open_with(MAP, 0);
    ck_assert(log_all(s).count > left && !exists("events.new"));
    store_close(checked(s));
}
END_TEST

START_TEST(a_crash_between_the_two_renames_is_mended)
{
    size_t left = two_logs();
    verify_result result;
    const verify_options options = {.path = store_folder(), .found = found};
    rename_below("events", "events.new");
    ck_ok(store_verify(&options, &result, &error));
    ck_assert(result.violations == 0 && result.events == left);
    ck_opens_with(left);
}
END_TEST

START_TEST(a_crash_after_the_change_leaves_the_new_file)
{
    ck_opens_with(two_logs());
}
END_TEST

START_TEST(an_old_file_alone_is_the_log)
{
    size_t left = two_logs();
    ck_ok(files_remove_folder(below_store("events"), &error));
    store *s = open_with(MAP, 0);
    ck_assert_uint_gt(log_all(s).count, left);
    store_close(checked(s));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("events_upkeep");
    TCase *tests = tcase_create("events_upkeep");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, old_events_go_and_a_search_stays_with_its_last_click);
    tcase_add_test(tests, a_click_that_comes_between_the_look_and_the_removal_keeps_its_search);
    tcase_add_test(tests, the_oldest_go_first_for_room);
    tcase_add_test(tests, a_users_searches_go_with_their_clicks);
    tcase_add_test(tests, a_document_leaves_an_empty_place_and_takes_what_is_about_it);
    tcase_add_test(tests, training_passes_over_empty_places);
    tcase_add_test(tests, erasing_by_age_asks_for_no_click);
    tcase_add_test(tests, what_was_erased_is_nowhere_in_the_file_written_anew);
    tcase_add_test(tests, what_is_logged_meanwhile_is_in_the_new_file);
    tcase_add_test(tests, a_read_that_began_before_ends_in_the_old_file);
    tcase_add_test(tests, an_old_file_that_cannot_be_removed_is_told_and_goes_with_the_next);
    tcase_add_test(tests, a_rewriting_that_is_given_up_changes_nothing);
    tcase_add_test(tests, readers_go_on_while_files_change_places);
    tcase_add_test(tests, a_crash_before_the_change_leaves_the_old_file);
    tcase_add_test(tests, a_crash_between_the_two_renames_is_mended);
    tcase_add_test(tests, a_crash_after_the_change_leaves_the_new_file);
    tcase_add_test(tests, an_old_file_alone_is_the_log);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
