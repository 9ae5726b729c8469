#include "finetune/mine_words.h"

#include "base/buffer.h"
#include "base/utf8.h"

#include <utf8proc.h>

#include <limits.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

/* A query's distinct words, at most: FTS5's parser goes down a tree of them, and a long
 * text is told well by so many. */
enum { QUERY_WORDS_MAX = 64, WORD_BYTES_MAX = 256 };

struct mine_words {
    sqlite3 *db;
    sqlite3_stmt *search;
    sqlite3_stmt *count, *know, *note; /* how many texts hold a word */
    size_t texts;
    buffer query; /* the FTS5 expression of a query */
};

static sem_status fail_sqlite(mine_words *w, const char *what, int rc, sem_error *err)
{
    sem_status code = (rc & 0xff) == SQLITE_FULL || (rc & 0xff) == SQLITE_NOMEM ? SEM_RESOURCE_EXHAUSTED : SEM_INTERNAL;
    return sem_fail(err, code, "cannot %s by words: %s", what, w->db != NULL ? sqlite3_errmsg(w->db) : "no memory");
}

static sem_status insert(mine_words *w, const data_text *texts, size_t count, sem_error *err)
{
    sqlite3_stmt *put;
    int rc = sqlite3_prepare_v2(w->db, "INSERT INTO texts(rowid, text) VALUES(?1, ?2)", -1, &put, NULL);
    for (size_t i = 0; i < count && rc == SQLITE_OK; i++) {
        rc = sqlite3_bind_int64(put, 1, (sqlite3_int64)i + 1);
        if (rc == SQLITE_OK)
            rc = texts[i].length <= INT_MAX
                     ? sqlite3_bind_text(put, 2, texts[i].bytes, (int)texts[i].length, SQLITE_STATIC)
                     : SQLITE_TOOBIG;
        if (rc == SQLITE_OK && sqlite3_step(put) != SQLITE_DONE)
            rc = sqlite3_errcode(w->db);
        sqlite3_reset(put);
    }
    sqlite3_finalize(put);
    return rc == SQLITE_OK ? SEM_OK : fail_sqlite(w, "index texts", rc, err);
}

static sem_status fill(mine_words *w, const data_text *texts, size_t count, sem_error *err)
{
    /* The empty name is a file that is in memory until it is large, and then nowhere to be seen. */
    int rc = sqlite3_open_v2("", &w->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(w->db,
                          "PRAGMA journal_mode=OFF; BEGIN; CREATE VIRTUAL TABLE texts USING fts5(text, content='', "
                          "tokenize=\"unicode61 remove_diacritics 2\"); "
                          "CREATE TABLE words(word TEXT PRIMARY KEY, texts INTEGER) WITHOUT ROWID",
                          NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        return fail_sqlite(w, "make an index", rc, err);
    sem_status status = insert(w, texts, count, err);
    if (status != SEM_OK)
        return status;
    rc = sqlite3_exec(w->db, "COMMIT", NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(w->db,
                                "SELECT rowid, bm25(texts) FROM texts WHERE texts MATCH ?1 ORDER BY bm25(texts), rowid "
                                "LIMIT ?2",
                                -1, &w->search, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(w->db, "SELECT count(*) FROM texts WHERE texts MATCH ?1", -1, &w->count, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(w->db, "SELECT texts FROM words WHERE word = ?1", -1, &w->know, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(w->db, "INSERT INTO words VALUES(?1, ?2)", -1, &w->note, NULL);
    return rc == SQLITE_OK ? SEM_OK : fail_sqlite(w, "index texts", rc, err);
}

sem_status mine_words_create(mine_words **out, const data_text *texts, size_t count, sem_error *err)
{
    *out = NULL;
    mine_words *w = calloc(1, sizeof *w);
    if (w == NULL)
        return sem_fail_memory(err, "an index of words");
    w->texts = count;
    sem_status status = fill(w, texts, count, err);
    if (status == SEM_OK)
        *out = w;
    else
        mine_words_destroy(w);
    return status;
}

void mine_words_destroy(mine_words *w)
{
    if (w == NULL)
        return;
    sqlite3_finalize(w->search);
    sqlite3_finalize(w->count);
    sqlite3_finalize(w->know);
    sqlite3_finalize(w->note);
    sqlite3_close(w->db);
    buffer_free(&w->query);
    free(w);
}

/* What unicode61 makes words of. */
static bool is_word(uint32_t code)
{
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_CO: return true;
    default: return false;
    }
}

/* One number that a statement gives for a word; *row false: none. */
static int ask(sqlite3_stmt *statement, const char *word, size_t length, bool *row, size_t *number)
{
    int rc = sqlite3_bind_text(statement, 1, word, (int)length, SQLITE_STATIC);
    rc = rc == SQLITE_OK ? sqlite3_step(statement) : rc;
    *row = rc == SQLITE_ROW;
    if (*row)
        *number = (size_t)sqlite3_column_int64(statement, 0);
    sqlite3_reset(statement);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* Texts that hold the word (in its quotes); counted once. */
static int count_texts(mine_words *w, const char *quoted, size_t length, size_t *texts)
{
    bool known, counted;
    int rc = ask(w->know, quoted, length, &known, texts);
    if (rc != SQLITE_OK || known)
        return rc;
    rc = ask(w->count, quoted, length, &counted, texts);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_text(w->note, 1, quoted, (int)length, SQLITE_STATIC);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(w->note, 2, (sqlite3_int64)*texts);
    if (rc == SQLITE_OK && sqlite3_step(w->note) != SQLITE_DONE)
        rc = sqlite3_errcode(w->db);
    sqlite3_reset(w->note);
    return rc;
}

/* What becomes of a query's words. FTS5 gives a word that more than half of the texts
 * hold a weight of one millionth: searching for it costs a walk through all of these,
 * and only finds texts that hold nothing else, which is asked for where others are too few. */
typedef struct word_query {
    mine_words *w;
    bool common;  /* such words are taken as well */
    bool skipped; /* one was not */
    size_t words;
    int rc;
    bool full; /* memory ran out */
} word_query;

/* Appends "word", with OR between; a word that stands there already is left out. */
static bool add_word(word_query *q, const char *word, size_t length)
{
    char quoted[WORD_BYTES_MAX + 2];
    buffer *query = &q->w->query;
    size_t texts = 0;
    if (length == 0 || length > WORD_BYTES_MAX)
        return true;
    quoted[0] = '"';
    memcpy(quoted + 1, word, length);
    quoted[length + 1] = '"';
    if (query->size > 0 && memmem(query->data, query->size, quoted, length + 2) != NULL)
        return true;
    if (!q->common && (q->rc = count_texts(q->w, quoted, length + 2, &texts)) != SQLITE_OK)
        return false;
    if (texts > q->w->texts / 2) {
        q->skipped = true;
        return true;
    }
    q->full = (query->size > 0 && !buffer_append(query, " OR ", 4)) || !buffer_append(query, quoted, length + 2);
    q->words++;
    return !q->full;
}

/* Each word by itself, in quotes, so that nothing in a text is taken for FTS5's syntax. */
static void build_query(word_query *q, data_text text)
{
    size_t start = 0;
    bool more = true;
    q->w->query.size = 0;
    for (size_t at = 0; at < text.length && q->words < QUERY_WORDS_MAX && more;) {
        uint32_t code;
        size_t length = utf8_decode(text.bytes + at, text.length - at, &code);
        if (!is_word(code)) {
            more = add_word(q, text.bytes + start, at - start);
            start = at + length;
        }
        at += length;
    }
    if (more && q->words < QUERY_WORDS_MAX && start < text.length)
        add_word(q, text.bytes + start, text.length - start);
}

/* Searches for the words of w->query. */
static sem_status search(mine_words *w, size_t k, mine_word_hit *hits, size_t *count, sem_error *err)
{
    *count = 0;
    if (w->query.size == 0)
        return SEM_OK;
    int rc = sqlite3_bind_text(w->search, 1, (const char *)w->query.data, (int)w->query.size, SQLITE_STATIC);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(w->search, 2, (sqlite3_int64)k);
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(w->search);
        if (rc == SQLITE_ROW && *count < k)
            hits[(*count)++] = (mine_word_hit){(uint32_t)(sqlite3_column_int64(w->search, 0) - 1),
                                               (float)-sqlite3_column_double(w->search, 1)};
    }
    sqlite3_reset(w->search);
    return rc == SQLITE_DONE ? SEM_OK : fail_sqlite(w, "search", rc, err);
}

sem_status mine_words_search(mine_words *w, data_text query, size_t k, mine_word_hit *hits, size_t *count,
                             sem_error *err)
{
    word_query q = {.w = w};
    *count = 0;
    do {
        q.common = q.skipped;
        q.skipped = false;
        q.words = 0;
        build_query(&q, query);
        if (q.full)
            return sem_fail_memory(err, "a query of words");
        sem_status status = q.rc == SQLITE_OK ? search(w, k, hits, count, err) : fail_sqlite(w, "search", q.rc, err);
        if (status != SEM_OK)
            return status;
    } while (q.skipped && *count < k);
    return SEM_OK;
}
