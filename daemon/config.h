/* The configuration: an INI file, then -o section.key=value from the command
 * line. Every key stands in conf/semd.conf with its default and its unit. */
#ifndef SEM_DAEMON_CONFIG_H
#define SEM_DAEMON_CONFIG_H

#include "base/buffer.h"
#include "base/files.h"
#include "base/log.h"
#include "base/status.h"
#include "finetune/propensity.h"
#include "finetune/trainer.h"
#include "finetune/trust.h"
#include "proto/request.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CONFIG_LISTEN_MAX = 16, CONFIG_ADDRESS_MAX = 256 };

typedef struct config {
    struct {
        char listen[CONFIG_LISTEN_MAX][CONFIG_ADDRESS_MAX]; /* tcp://host:port, unix:/path */
        size_t listen_count;
        char http[CONFIG_ADDRESS_MAX]; /* host:port; empty: off */
        size_t max_connections;
        uint64_t idle_timeout_ms;  /* 0: none; a connection with nothing in flight */
        uint64_t frame_timeout_ms; /* from a frame's first byte to its last */
        uint64_t write_timeout_ms; /* a client that takes nothing of its answers */
        size_t output_buffer;      /* bytes of unsent answers at which reading stops */
        size_t output_limit;       /* bytes of unsent answers at which one more closes the connection */
        size_t max_in_flight;      /* requests of one connection */
        uint64_t drain_timeout_ms; /* at SIGTERM, for requests in flight */
        unsigned busy_poll_us;     /* after a request or an answer, before a thread sleeps */
    } server;
    request_limits limits;
    struct {
        char tokens[FILES_PATH_MAX]; /* file of them; empty: clients need none */
    } auth;
    struct {
        char path[FILES_PATH_MAX];       /* default $STATE_DIRECTORY, else /var/lib/semd */
        uint64_t map_size;               /* bytes of address space for each environment */
        uint64_t max_size;               /* bytes on disk; 0: none */
        char backup_dir[FILES_PATH_MAX]; /* empty: no backups */
        uint64_t backup_growth;          /* bytes of files because of a backup */
        char export_dir[FILES_PATH_MAX]; /* empty: no exports */
    } storage;
    struct {
        char path[FILES_PATH_MAX]; /* seeds the first generation */
        char precision[16];        /* auto, float32, bfloat16, int8 */
        double min_cosine;         /* what auto asks of a precision */
    } model;
    struct {
        unsigned workers;           /* threads; 0: one a core */
        size_t token_budget;        /* tokens of one batch */
        uint64_t batch_deadline_ms; /* a query that waited longer is taken whatever its length */
        size_t cache_bytes;         /* of query embeddings; 0: none are kept */
        size_t queue;               /* requests waiting, each lane */
        size_t queue_bytes;         /* of requests waiting or under way, with what was made of them */
    } encode;
    struct {
        size_t exact_below;  /* documents */
        unsigned threads;    /* for k-means */
        char engine[8];      /* semd, faiss */
        char faiss_type[16]; /* IVF,SQ8 or IVF,Flat */
    } index;
    struct {
        uint64_t click_window_ms;
        uint64_t keep_ms;  /* 0: for ever */
        uint64_t max_size; /* bytes; 0: no limit */
    } events;
    struct {
        bool enabled;          /* whether it starts by itself (interval); the method works always */
        char mode[8];          /* full, query, auto */
        uint64_t max_embed_ms; /* of an estimated re-embedding, for auto; 0: no limit */
        size_t min_pairs;
        size_t min_heldout;
        uint64_t interval_ms; /* 0: never by itself */
        size_t new_pairs;     /* judgements since the last job began at which one starts by itself; 0: at no number */
        char at[64];          /* when one starts by itself (daemon/calendar.h); empty: at no time */
        size_t checkpoint_every; /* steps of training */
        unsigned threads;        /* 0: one a core */
        double heldout_share;    /* of the queries */
        double newest_share;     /* of a round's new ones, which are left for the next */
        size_t eval_documents;   /* pool that the gate ranks against, over all collections */
        size_t probe_queries;    /* of each collection */
        double max_p;            /* chance that a gain is luck */
        double max_probe_loss;   /* of MRR@10 on a collection's probe queries */
        double max_drift;        /* 1 - mean cosine of old and new vectors */
        size_t keep;             /* previous generations kept for rollback */
        propensity_options propensity;
        bool harvest;        /* propensities come from the log; else they are the prior's */
        double click_weight; /* most that a click counts for because of its rank */
        bool agreement;      /* clicks count by how likely the log finds their documents right */
        trust_options trust;
        size_t skipped_negatives; /* of a pair, from the documents above a click */
        double document_focus;    /* of what is usual, that a document's queries must have; 0: off */
        size_t mined_negatives;   /* of a pair without skipped ones, from the indices */
        size_t mine_top;          /* candidates of each index */
        bool replay;              /* pairs that an earlier job trained on come again */
        size_t own_pairs;         /* made from the collections' own text, at most */
        double anchor_weight;     /* below 0: none, or 0.1 where queries have a model of their own */
        bool watchdog;
        size_t watchdog_searches;    /* of each generation, before they are compared first */
        double watchdog_p;           /* chance of an alarm for nothing */
        uint64_t watchdog_settle_ms; /* that a search is given for its clicks */
        bool watchdog_rollback;
        char rollout[12];         /* immediate, interleave */
        size_t rollout_clicks;    /* on interleaved searches, after which a trial is over */
        uint64_t rollout_time_ms; /* after which it is in any case; 0: no limit */
    } finetune;
    train_config train;      /* threads (0 resolved) and nice come from [finetune] */
    struct {                 /* [train]'s names, resolved in train */
        char schedule[16];   /* linear, cosine, constant */
        char scale_kind[16]; /* fixed, scheduled, learned */
        char precision[16];  /* auto, float32, bfloat16 */
        char shape[16];      /* packed, buckets */
        char matryoshka[128], matryoshka_weights[128];
    } train_names;
    log_level log_level;
} config;

/* The defaults of the key table; storage.path is $STATE_DIRECTORY where set. */
void config_defaults(config *c);

/* What [train] has by name, and threads, as training takes them: 0 threads in the file
 * mean one a core. Needed after a key was set by itself. The error names a key whose text
 * cannot be read, or a value that training does not take. */
sem_status config_resolve_train(config *c, sem_error *err);

/* Reads the file (NULL: none) and applies the -o overrides in order. Nothing of
 * *c changes unless all of it is right. Errors name file, line, key, the value
 * found and what is allowed. Once -o server.listen= is given the file's list is
 * dropped, further ones append. */
sem_status config_load(config *c, const char *path, const char *const *overrides, size_t count, sem_error *err);

/* What a reload may change is copied from next to c (log level, limits, time-outs,
 * finetune and train); the names of changed keys that need a restart are put,
 * separated by spaces, into refused (size bytes; "" if none). Loop thread only. */
void config_reload(config *c, const config *next, char *refused, size_t size);

/* Appends every key with its default and meaning, as --help prints them. False when memory is out. */
bool config_describe(buffer *out);

#endif
