#include "index/lexical_db.h"

#include <limits.h>
#include <stdio.h>

enum {
    SQL_MAX = 1024,
    BUSY_MS = 10000,  /* the one writer is waited for by nobody but a checkpoint */
    CLASS_EXACT = 16, /* lengths below it are a class of their own */
    CLASS_STEP = 16,  /* above it a class is a sixteenth wider than its least length */
    CLASS_LAST = (1 << LEXICAL_CLASS_BITS) - 1
};

sem_status lexical_db_fail(lexical_db *db, const char *what, int rc, sem_error *err)
{
    const char *text = db->handle != NULL ? sqlite3_errmsg(db->handle) : sqlite3_errstr(rc);
    switch (rc & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
    case SQLITE_SCHEMA:
        db->damaged = true;
        return sem_fail(err, SEM_INTERNAL, "cannot %s in the lexical index: it is damaged: %s", what, text);
    case SQLITE_FULL:
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot %s in the lexical index: no room on disk: %s", what, text);
    case SQLITE_NOMEM: return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot %s in the lexical index: %s", what, text);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_CANTOPEN: /* it is just being made anew */
        return sem_fail(err, SEM_UNAVAILABLE, "cannot %s in the lexical index: %s; try again", what, text);
    default: return sem_fail(err, SEM_INTERNAL, "cannot %s in the lexical index: %s (SQLite error %d)", what, text, rc);
    }
}

/* --- statements */

/* Puts the number where # stands. */
static void expand(char out[SQL_MAX], const char *sql, uint32_t number)
{
    size_t used = 0;
    for (; *sql != '\0' && used < SQL_MAX - 12; sql++)
        if (*sql == '#')
            used += (size_t)snprintf(out + used, SQL_MAX - used, "%u", number);
        else
            out[used++] = *sql;
    out[used] = '\0';
}

sem_status lexical_db_run(lexical_db *db, const char *sql, uint32_t number, sem_error *err)
{
    char text[SQL_MAX];
    expand(text, sql, number);
    int rc = sqlite3_exec(db->handle, text, NULL, NULL, NULL);
    return rc == SQLITE_OK ? SEM_OK : lexical_db_fail(db, "run a statement", rc, err);
}

sem_status lexical_db_prepare(lexical_db *db, const char *sql, uint32_t number, sqlite3_stmt **out, sem_error *err)
{
    char text[SQL_MAX];
    expand(text, sql, number);
    int rc = sqlite3_prepare_v2(db->handle, text, -1, out, NULL);
    if (rc == SQLITE_ERROR) /* a table is missing, or not what it was made as */
        rc = SQLITE_CORRUPT;
    return rc == SQLITE_OK ? SEM_OK : lexical_db_fail(db, "prepare a statement", rc, err);
}

sem_status lexical_db_step(lexical_db *db, sqlite3_stmt *statement, bool *row, sem_error *err)
{
    int rc = sqlite3_step(statement);
    *row = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW)
        return SEM_OK;
    sem_status status = rc == SQLITE_DONE ? SEM_OK : lexical_db_fail(db, "run a statement", rc, err);
    sqlite3_reset(statement); /* repeats the error that was just reported */
    return status;
}

/* --- the connection */

static sem_status find_api(lexical_db *db, sem_error *err)
{
    sqlite3_stmt *statement;
    bool row;
    sem_status status = lexical_db_prepare(db, "SELECT fts5(?1)", 0, &statement, err);
    if (status != SEM_OK && db->damaged)
        return sem_fail(err, SEM_FAILED_PRECONDITION,
                        "this SQLite (%s) was built without FTS5; the lexical index "
                        "needs it",
                        sqlite3_libversion());
    if (status != SEM_OK)
        return status;
    int rc = sqlite3_bind_pointer(statement, 1, (void *)&db->api, "fts5_api_ptr", NULL);
    status = rc == SQLITE_OK ? lexical_db_step(db, statement, &row, err) : lexical_db_fail(db, "find FTS5", rc, err);
    sqlite3_finalize(statement);
    return status;
}

static sem_status make_tokenizer(lexical_db *db, sem_error *err)
{
    const char *options[] = {"remove_diacritics", "2"};
    void *context;
    sem_status status = find_api(db, err);
    if (status != SEM_OK)
        return status;
    int rc = db->api->xFindTokenizer(db->api, "unicode61", &context, &db->methods);
    if (rc == SQLITE_OK)
        rc = db->methods.xCreate(context, options, 2, &db->tokenizer);
    return rc == SQLITE_OK ? SEM_OK : lexical_db_fail(db, "make a tokenizer", rc, err);
}

sem_status lexical_db_open(lexical_db *db, const char *path, bool create, uint32_t cache_kib, sem_error *err)
{
    *db = (lexical_db){0};
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0);
    int rc = sqlite3_open_v2(path, &db->handle, flags, NULL);
    if (rc != SQLITE_OK) {
        sem_status failed = lexical_db_fail(db, "open the file", rc, err);
        lexical_db_close(db);
        return failed;
    }
    sqlite3_extended_result_codes(db->handle, 1);
    sqlite3_busy_timeout(db->handle, BUSY_MS);
    /* After a commit a crash of the machine may lose what no checkpoint has
     * made durable; the store keeps the log until one has. */
    sem_status status = lexical_db_run(db, "PRAGMA cache_size=-#; PRAGMA synchronous=NORMAL;", cache_kib, err);
    if (status == SEM_OK)
        status = lexical_db_run(
            db, create ? "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;" : "PRAGMA query_only=1;", 0, err);
    if (status == SEM_OK)
        status = make_tokenizer(db, err);
    if (status != SEM_OK)
        lexical_db_close(db);
    return status;
}

void lexical_db_close(lexical_db *db)
{
    bool damaged = db->damaged;
    if (db->tokenizer != NULL)
        db->methods.xDelete(db->tokenizer);
    sqlite3_close(db->handle);
    *db = (lexical_db){.damaged = damaged};
}

/* --- tokens */

typedef struct token_call {
    lexical_each_token *each;
    void *context;
    bool stopped;
} token_call;

static int on_token(void *context, int flags, const char *token, int length, int start, int end)
{
    token_call *call = context;
    (void)flags, (void)start, (void)end;
    size_t size = length < LEXICAL_TOKEN_MAX ? (size_t)length : LEXICAL_TOKEN_MAX;
    call->stopped = !call->each(call->context, token, size);
    return call->stopped ? SQLITE_DONE : SQLITE_OK;
}

sem_status lexical_db_tokens(lexical_db *db, const char *text, size_t length, lexical_each_token *each, void *context,
                             sem_error *err)
{
    token_call call = {.each = each, .context = context};
    if (length > INT_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a text of %zu bytes has too many for the lexical index", length);
    int rc = db->methods.xTokenize(db->tokenizer, &call, FTS5_TOKENIZE_DOCUMENT, text != NULL ? text : "", (int)length,
                                   on_token);
    return rc == SQLITE_OK || call.stopped ? SEM_OK : lexical_db_fail(db, "cut a text", rc, err);
}

/* --- classes of length */

uint64_t lexical_class_least(unsigned class)
{
    uint64_t least = class < CLASS_EXACT ? class : CLASS_EXACT;
    for (unsigned c = CLASS_EXACT; c < class; c++)
        least += least / CLASS_STEP;
    return least;
}

unsigned lexical_class_of(uint64_t tokens)
{
    unsigned class = tokens < CLASS_EXACT ? (unsigned)tokens : CLASS_EXACT;
    uint64_t next = CLASS_EXACT + CLASS_EXACT / CLASS_STEP;
    while (class >= CLASS_EXACT && class < CLASS_LAST && next <= tokens) {
        class ++;
        next += next / CLASS_STEP;
    }
    return class;
}
