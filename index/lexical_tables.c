#include "index/lexical_tables.h"

#include <stdlib.h>
#include <string.h>

enum { FLUSH_TERMS = 100000 /* terms of a batch that are kept in memory at a time */ };

enum { ROW_INSERT, ROW_DELETE, DOC_GET, DOC_PUT, DOC_DELETE, DOC_VERSION, TERM_ADD, TERM_PRUNE };

/* In the order of the names above; each # is the collection's number. */
static const char *const SQL[] = {
    "INSERT INTO fts_#(rowid, text) VALUES(?1, ?2)",
    "INSERT INTO fts_#(fts_#, rowid, text) VALUES('delete', ?1, ?2)",
    "SELECT version, length FROM docs_# WHERE docno = ?1",
    "INSERT INTO docs_# VALUES(?1, ?2, ?3)",
    "DELETE FROM docs_# WHERE docno = ?1",
    "UPDATE docs_# SET version = ?2 WHERE docno = ?1",
    "INSERT INTO terms_# VALUES(?1, ?2) ON CONFLICT(term) DO UPDATE SET documents = documents + ?2",
    "DELETE FROM terms_# WHERE term = ?1 AND documents <= 0",
};

void lexical_tables_rest(lexical_tables *t)
{
    for (size_t i = 0; i < sizeof t->statements / sizeof *t->statements; i++) {
        sqlite3_finalize(t->statements[i]);
        t->statements[i] = NULL;
    }
    lexical_terms_free(t->changes);
    t->changes = NULL;
}

void lexical_tables_free(lexical_tables *t)
{
    if (t == NULL)
        return;
    lexical_tables_rest(t);
    free(t);
}

sem_status lexical_tables_create(lexical_db *db, lexical_tables *t, sem_error *err)
{
    static const char *const sql[] = {
        "CREATE VIRTUAL TABLE fts_# USING fts5(text, content='', columnsize=0, "
        "tokenize='unicode61 remove_diacritics 2')",
        /* postings that FTS5 gathers in memory before it writes a segment: 8 MiB */
        "INSERT INTO fts_#(fts_#, rank) VALUES('hashsize', 8388608)",
        "CREATE TABLE docs_#(docno INTEGER PRIMARY KEY, version INTEGER NOT NULL, length INTEGER NOT NULL)",
        "CREATE TABLE terms_#(term BLOB PRIMARY KEY, documents INTEGER NOT NULL) WITHOUT ROWID",
        "INSERT INTO collections VALUES(#, 0, 0, NULL)",
    };
    sem_status status = SEM_OK;
    for (size_t i = 0; i < sizeof sql / sizeof *sql && status == SEM_OK; i++)
        status = lexical_db_run(db, sql[i], t->number, err);
    t->changed = true;
    return status;
}

sem_status lexical_tables_drop(lexical_db *db, lexical_tables *t, sem_error *err)
{
    lexical_tables_rest(t);
    return lexical_db_run(db,
                          "DROP TABLE IF EXISTS fts_#; DROP TABLE IF EXISTS docs_#; DROP TABLE IF EXISTS terms_#; "
                          "DELETE FROM collections WHERE number = #",
                          t->number, err);
}

/* --- statements */

static sem_status statement(lexical_db *db, lexical_tables *t, int which, sqlite3_stmt **out, sem_error *err)
{
    sem_status status = SEM_OK;
    if (t->statements[which] == NULL)
        status = lexical_db_prepare(db, SQL[which], t->number, &t->statements[which], err);
    *out = t->statements[which];
    return status;
}

static sem_status finish(lexical_db *db, sqlite3_stmt *s, int bound, sem_error *err)
{
    bool row;
    return bound == SQLITE_OK ? lexical_db_step(db, s, &row, err) : lexical_db_fail(db, "bind a value", bound, err);
}

static sem_status run_number(lexical_db *db, lexical_tables *t, int which, uint32_t docno, sem_error *err)
{
    sqlite3_stmt *s;
    sem_status status = statement(db, t, which, &s, err);
    return status == SEM_OK ? finish(db, s, sqlite3_bind_int64(s, 1, docno), err) : status;
}

static sem_status run_row(lexical_db *db, lexical_tables *t, int which, uint32_t docno, uint64_t tokens,
                          const char *text, size_t length, sem_error *err)
{
    sqlite3_stmt *s;
    sem_status status = statement(db, t, which, &s, err);
    if (status != SEM_OK)
        return status;
    sqlite3_int64 row = (sqlite3_int64)docno << LEXICAL_CLASS_BITS | lexical_class_of(tokens);
    int rc = sqlite3_bind_int64(s, 1, row);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_text64(s, 2, length > 0 ? text : "", length, SQLITE_STATIC, SQLITE_UTF8);
    status = finish(db, s, rc, err);
    sqlite3_clear_bindings(s); /* the text is borrowed */
    return status;
}

static sem_status find_row(lexical_db *db, lexical_tables *t, uint32_t docno, uint64_t *version, uint64_t *tokens,
                           sem_error *err)
{
    sqlite3_stmt *s;
    bool row = false;
    *version = *tokens = 0;
    sem_status status = statement(db, t, DOC_GET, &s, err);
    if (status != SEM_OK)
        return status;
    int rc = sqlite3_bind_int64(s, 1, docno);
    status = rc == SQLITE_OK ? lexical_db_step(db, s, &row, err) : lexical_db_fail(db, "bind a value", rc, err);
    if (row) {
        *version = (uint64_t)sqlite3_column_int64(s, 0);
        *tokens = (uint64_t)sqlite3_column_int64(s, 1);
        sqlite3_reset(s);
    }
    return status;
}

sem_status lexical_tables_version(lexical_db *db, lexical_tables *t, uint32_t docno, uint64_t *version, sem_error *err)
{
    uint64_t tokens;
    return find_row(db, t, docno, version, &tokens, err);
}

sem_status lexical_tables_set_version(lexical_db *db, lexical_tables *t, uint32_t docno, uint64_t version,
                                      sem_error *err)
{
    sqlite3_stmt *s;
    sem_status status = statement(db, t, DOC_VERSION, &s, err);
    if (status != SEM_OK)
        return status;
    int rc = sqlite3_bind_int64(s, 1, docno);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(s, 2, (sqlite3_int64)version);
    return finish(db, s, rc, err);
}

/* --- what terms a text has */

typedef struct text_count {
    lexical_terms *terms;
    uint64_t number; /* of the text, unlike that of any other that the set saw */
    uint64_t tokens;
    int change;
    bool failed;
} text_count;

static bool count_token(void *context, const char *token, size_t length)
{
    text_count *c = context;
    lexical_term *term = lexical_terms_add(c->terms, token, length);
    if (term == NULL) {
        c->failed = true;
        return false;
    }
    if (term->text != c->number)
        term->change += c->change;
    term->text = c->number;
    c->tokens++;
    return true;
}

static int by_bytes(const lexical_term *a, const lexical_term *b)
{
    int order = memcmp(a->bytes, b->bytes, a->length < b->length ? a->length : b->length);
    return order != 0 ? order : (a->length > b->length) - (a->length < b->length);
}

static sem_status flush_term(lexical_db *db, lexical_tables *t, const lexical_term *term, sem_error *err)
{
    sqlite3_stmt *s;
    if (term->change == 0)
        return SEM_OK;
    sem_status status = statement(db, t, TERM_ADD, &s, err);
    if (status != SEM_OK)
        return status;
    int rc = sqlite3_bind_blob64(s, 1, term->bytes, term->length, SQLITE_STATIC);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(s, 2, term->change);
    status = finish(db, s, rc, err);
    sqlite3_clear_bindings(s);
    if (status != SEM_OK || term->change > 0)
        return status;
    status = statement(db, t, TERM_PRUNE, &s, err);
    if (status == SEM_OK)
        status = finish(db, s, sqlite3_bind_blob64(s, 1, term->bytes, term->length, SQLITE_STATIC), err);
    return status;
}

/* In order of the terms: neighbours lie on one page of the table. */
static sem_status flush_terms(lexical_db *db, lexical_tables *t, sem_error *err)
{
    sem_status status = SEM_OK;
    if (t->changes == NULL)
        return SEM_OK;
    lexical_terms_sort(t->changes, by_bytes);
    for (size_t i = 0; i < lexical_terms_count(t->changes) && status == SEM_OK; i++)
        status = flush_term(db, t, lexical_terms_at(t->changes, i), err);
    lexical_terms_clear(t->changes);
    return status;
}

/* number must differ from that of the text before it in the set. */
static sem_status count_text(lexical_db *db, lexical_tables *t, uint64_t number, int change, const char *text,
                             size_t length, uint64_t *tokens, sem_error *err)
{
    sem_status status = SEM_OK;
    if (t->changes == NULL)
        status = lexical_terms_create(&t->changes, err);
    else if (lexical_terms_count(t->changes) > FLUSH_TERMS)
        status = flush_terms(db, t, err);
    text_count c = {.terms = t->changes, .number = number, .change = change};
    if (status == SEM_OK)
        status = lexical_db_tokens(db, text, length, count_token, &c, err);
    *tokens = c.tokens;
    return status == SEM_OK && c.failed ? sem_fail_memory(err, "the terms of a text") : status;
}

/* --- rows */

/* Texts of a batch have different numbers: a document is deleted once and
 * inserted once in it. */
static uint64_t text_number(uint32_t docno, bool insert)
{
    return ((uint64_t)docno + 1) << 1 | insert;
}

sem_status lexical_tables_insert(lexical_db *db, lexical_tables *t, uint32_t docno, uint64_t version, const char *text,
                                 size_t length, sem_error *err)
{
    uint64_t tokens;
    sqlite3_stmt *s;
    sem_status status = count_text(db, t, text_number(docno, true), 1, text, length, &tokens, err);
    if (status == SEM_OK)
        status = run_row(db, t, ROW_INSERT, docno, tokens, text, length, err);
    if (status == SEM_OK)
        status = statement(db, t, DOC_PUT, &s, err);
    if (status != SEM_OK)
        return status;
    int rc = sqlite3_bind_int64(s, 1, docno);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(s, 2, (sqlite3_int64)version);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(s, 3, (sqlite3_int64)tokens);
    t->documents++;
    t->tokens += tokens;
    t->changed = true;
    return finish(db, s, rc, err);
}

sem_status lexical_tables_delete(lexical_db *db, lexical_tables *t, uint32_t docno, const char *text, size_t length,
                                 sem_error *err)
{
    uint64_t version, tokens, counted;
    sem_status status = find_row(db, t, docno, &version, &tokens, err);
    if (status == SEM_OK && text != NULL)
        status = count_text(db, t, text_number(docno, false), -1, text, length, &counted, err);
    if (status == SEM_OK && text != NULL)
        status = run_row(db, t, ROW_DELETE, docno, counted, text, length, err);
    if (status == SEM_OK)
        status = run_number(db, t, DOC_DELETE, docno, err);
    t->documents -= t->documents > 0;
    t->tokens -= tokens < t->tokens ? tokens : t->tokens;
    t->changed = true;
    return status;
}

sem_status lexical_tables_flush(lexical_db *db, lexical_tables *t, sem_error *err)
{
    sem_status status = flush_terms(db, t, err);
    if (status != SEM_OK || !t->changed)
        return status;
    sqlite3_stmt *s;
    status = lexical_db_prepare(db, "UPDATE collections SET documents = ?2, tokens = ?3, built = ?1 WHERE number = #",
                                t->number, &s, err);
    if (status != SEM_OK)
        return status;
    int rc = t->building ? sqlite3_bind_blob(s, 1, t->built, (int)t->built_length, SQLITE_STATIC)
                         : sqlite3_bind_null(s, 1);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(s, 2, (sqlite3_int64)t->documents);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(s, 3, (sqlite3_int64)t->tokens);
    status = finish(db, s, rc, err);
    sqlite3_finalize(s);
    t->changed = false;
    return status;
}
