/* The one table of configuration keys: reading the file, -o, --help, reload
 * and the test of conf/semd.conf all go by it. */
#ifndef SEM_DAEMON_CONFIG_KEYS_H
#define SEM_DAEMON_CONFIG_KEYS_H

#include "daemon/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TRAIN_THREADS_MAX = 256 /* more than a batch can feed; train_config_check() says so too */ };

typedef enum key_kind {
    KEY_BOOL,     /* true or false */
    KEY_INTEGER,  /* stored in 4 or 8 bytes */
    KEY_REAL,     /* double */
    KEY_DURATION, /* ms, s, m, h, d; stored as uint64_t milliseconds */
    KEY_SIZE,     /* KiB, MiB, GiB, TiB; stored in 8 bytes */
    KEY_PATH,     /* text; may be empty */
    KEY_CALENDAR, /* text: a time of day, with or without days; may be empty */
    KEY_CHOICE,   /* one of choices */
    KEY_LEVEL,    /* a log_level */
    KEY_LISTEN,   /* an address; repeatable */
    KEY_HTTP      /* host:port or empty */
} key_kind;

typedef struct config_key {
    const char *section, *name;
    key_kind kind;
    const char *initial;          /* the default, as it stands in the file */
    uint64_t least, most;         /* of integers, durations (ms) and sizes (bytes) */
    double real_least, real_most; /* of reals */
    const char *choices;          /* separated by ", " */
    bool restart;                 /* a reload can't change it */
    size_t offset, size;          /* where it lies in struct config, or in the struct of its table */
    const char *help;             /* unit and meaning, one line */
} config_key;

extern const config_key config_keys[];
extern const size_t config_key_count;

/* NULL when there is none. */
const config_key *config_key_find(const char *section, const char *name);
bool config_section_known(const char *section);

/* Reads text into its place in *into: a config, or for keys of another table what
 * their offsets are of (not KEY_LEVEL and KEY_LISTEN). The error says section.key,
 * found and allowed. A KEY_LISTEN value is appended. */
sem_status config_key_set(const config_key *key, void *into, const char *text, sem_error *err);

/* The value that the key has in *from, as a text that config_key_set() takes for the same; false
 * where size bytes are too few, and for KEY_LEVEL and KEY_LISTEN. */
bool config_key_text(const config_key *key, const void *from, char *text, size_t size);

#endif
