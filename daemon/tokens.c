#include "daemon/tokens.h"

#include "base/files.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_BYTES_MAX = 1 << 20 /* above TOKENS_MAX of the longest lines, comments included */ };

typedef struct entry {
    rpc_role role;
    uint64_t number;
    size_t line;
    size_t size;
    unsigned char bytes[TOKEN_MAX]; /* zeros follow */
} entry;

struct tokens {
    entry *entries; /* owned */
    size_t count;
    uint64_t version, next_number;
};

/* The bytes of a token that are compared, all TOKEN_MAX of them whatever its size. */
static void pad(unsigned char out[TOKEN_MAX], const void *token, size_t size)
{
    memset(out, 0, TOKEN_MAX);
    memcpy(out, token, size < TOKEN_MAX ? size : TOKEN_MAX);
}

/* 1 or 0, without a branch that depends on where they differ. */
static unsigned same(const entry *e, const unsigned char bytes[TOKEN_MAX], size_t size)
{
    size_t different = e->size ^ size;
    for (size_t i = 0; i < TOKEN_MAX; i++)
        different |= (size_t)(e->bytes[i] ^ bytes[i]);
    return different == 0;
}

/* Where the token stands, count: nowhere. */
static size_t place_of(const tokens *t, const void *token, size_t size)
{
    unsigned char bytes[TOKEN_MAX];
    size_t place = t->count;
    pad(bytes, token, size);
    for (size_t i = 0; i < t->count; i++) {
        const size_t mask = (size_t)0 - same(&t->entries[i], bytes, size);
        place = (place & ~mask) | (i & mask);
    }
    explicit_bzero(bytes, sizeof bytes);
    return place;
}

bool tokens_needed(const tokens *t)
{
    return t != NULL && t->count > 0;
}

uint64_t tokens_version(const tokens *t)
{
    return t != NULL ? t->version : 0;
}

rpc_role tokens_find(const tokens *t, const void *token, size_t size, uint64_t *number)
{
    size_t place = t != NULL ? place_of(t, token, size) : 0;
    *number = 0;
    if (t == NULL || place == t->count)
        return ROLE_NONE;
    *number = t->entries[place].number;
    return t->entries[place].role;
}

rpc_role tokens_role(const tokens *t, uint64_t number)
{
    for (size_t i = 0; t != NULL && i < t->count; i++)
        if (t->entries[i].number == number)
            return t->entries[i].role;
    return ROLE_NONE;
}

/* --- reading */

static sem_status check_token(const char *token, size_t size, sem_error *err)
{
    if (size < TOKEN_MIN || size > TOKEN_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the token has %zu bytes (allowed: %d to %d)", size, TOKEN_MIN,
                        TOKEN_MAX);
    for (size_t i = 0; i < size; i++)
        if (token[i] < '!' || token[i] > '~')
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "byte %zu of the token is no visible ASCII character (\"openssl rand -hex 32\" makes a "
                            "token)",
                            i + 1);
    return SEM_OK;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* Splits a line without its end into role and token; *size 0: nothing stands there. */
static sem_status split_line(const char *line, size_t length, rpc_role *role, const char **token, size_t *size,
                             sem_error *err)
{
    const char *end = line + length;
    *size = 0;
    while (line < end && is_blank(*line))
        line++;
    while (line < end && is_blank(end[-1]))
        end--;
    if (line == end || *line == '#')
        return SEM_OK;
    const char *word = line;
    while (line < end && !is_blank(*line))
        line++;
    if (!rpc_role_of(word, (size_t)(line - word), role))
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "no role stands first (expected: read, click, write or admin, a blank, the token)");
    while (line < end && is_blank(*line))
        line++;
    if (line == end)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "no token follows the role (expected: role, a blank, the token)");
    *token = line;
    *size = (size_t)(end - line);
    return check_token(line, *size, err);
}

static sem_status add(tokens *t, rpc_role role, const char *token, size_t size, size_t line, const tokens *before,
                      sem_error *err)
{
    const size_t twice = place_of(t, token, size);
    if (twice < t->count)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the token of line %zu again", t->entries[twice].line);
    if (t->count == TOKENS_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a token more than the %d that are allowed", TOKENS_MAX);
    entry *e = &t->entries[t->count++];
    *e = (entry){.role = role, .line = line, .size = size};
    pad(e->bytes, token, size);
    (void)tokens_find(before, token, size, &e->number);
    if (e->number == 0)
        e->number = t->next_number++;
    return SEM_OK;
}

static sem_status read_lines(tokens *t, const char *text, size_t size, const tokens *before, sem_error *err)
{
    const char *end = text + size;
    size_t number = 1;
    for (const char *line = text; line < end; number++) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        const size_t length = (size_t)((newline != NULL ? newline : end) - line);
        const char *token = NULL;
        size_t token_size = 0;
        rpc_role role = ROLE_NONE;
        sem_status status = split_line(line, length, &role, &token, &token_size, err);
        if (status == SEM_OK && token_size > 0)
            status = add(t, role, token, token_size, number, before, err);
        if (status != SEM_OK)
            return sem_error_prefix(err, "line %zu", number);
        line += length + 1;
    }
    if (t->count == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "no token stands in it (an empty auth.tokens turns tokens off)");
    return SEM_OK;
}

static sem_status read_file(tokens *t, const char *path, const tokens *before, sem_error *err)
{
    struct stat file;
    char *text = NULL;
    size_t size = 0;
    if (stat(path, &file) != 0)
        return files_fail(err, "read", path);
    if ((file.st_mode & S_IRWXO) != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s: its mode is %04o, so that others may read or change it (take that away: chmod o= FILE)",
                        path, (unsigned)(file.st_mode & 07777));
    sem_status status = files_read(path, FILE_BYTES_MAX, &text, &size, err);
    if (status != SEM_OK)
        return status;
    status = read_lines(t, text, size, before, err);
    if (status != SEM_OK)
        sem_error_prefix(err, "%s", path);
    explicit_bzero(text, size);
    free(text);
    return status;
}

sem_status tokens_read(tokens **out, const char *path, const tokens *before, sem_error *err)
{
    sem_error inner;
    if (err == NULL)
        err = &inner;
    *out = NULL;
    tokens *t = calloc(1, sizeof *t);
    if (t != NULL)
        t->entries = calloc(path[0] != '\0' ? TOKENS_MAX : 1, sizeof *t->entries);
    if (t == NULL || t->entries == NULL) {
        free(t);
        return sem_fail_memory(err, "tokens");
    }
    t->version = tokens_version(before) + 1;
    t->next_number = before != NULL ? before->next_number : 1;
    sem_status status = path[0] != '\0' ? read_file(t, path, before, err) : SEM_OK;
    if (status != SEM_OK) {
        tokens_destroy(t);
        return sem_error_prefix(err, "auth.tokens");
    }
    *out = t;
    return SEM_OK;
}

void tokens_destroy(tokens *t)
{
    if (t == NULL)
        return;
    explicit_bzero(t->entries, t->count * sizeof *t->entries);
    free(t->entries);
    free(t);
}
