#include "daemon/config_keys.h"

#include <string.h>

#define KIB ((uint64_t)1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)

#define SECOND_MS ((uint64_t)1000)
#define HOUR_MS   (3600 * SECOND_MS)
#define DAY_MS    (24 * HOUR_MS)
#define YEAR_MS   (365 * DAY_MS)

#define PLACE(member)    .offset = offsetof(config, member), .size = sizeof(((config *)0)->member)
#define RANGE(low, high) .least = (low), .most = (high)
#define REALS(low, high) .real_least = (low), .real_most = (high)

const config_key config_keys[] = {
    {"server", "listen", KEY_LISTEN, "tcp://127.0.0.1:7700", PLACE(server.listen), .restart = true,
     .help = "address for requests, repeatable: tcp://host:port, unix:/path"},
    {"server", "http", KEY_HTTP, "127.0.0.1:7701", PLACE(server.http), .restart = true,
     .help = "host:port for /livez, /readyz and /metrics; empty: off"},
    {"server", "max_connections", KEY_INTEGER, "10000", RANGE(1, 1000000), PLACE(server.max_connections),
     .help = "connections at a time"},
    {"server", "idle_timeout", KEY_DURATION, "0", RANGE(0, YEAR_MS), PLACE(server.idle_timeout_ms),
     .help = "time after which a connection with nothing in flight is closed; 0: never"},
    {"server", "frame_timeout", KEY_DURATION, "60s", RANGE(10, DAY_MS), PLACE(server.frame_timeout_ms),
     .help = "time from the first byte of a frame to its last"},
    {"server", "write_timeout", KEY_DURATION, "60s", RANGE(10, DAY_MS), PLACE(server.write_timeout_ms),
     .help = "time after which a client that takes nothing of its answers is closed"},
    {"server", "output_buffer", KEY_SIZE, "4MiB", RANGE(4 * KIB, 4 * GIB), PLACE(server.output_buffer),
     .help = "unsent answers of one connection at which reading from it stops"},
    {"server", "output_limit", KEY_SIZE, "256MiB", RANGE(64 * KIB, 64 * GIB), PLACE(server.output_limit),
     .help = "unsent answers and notifications of one connection at which the next one closes it"},
    {"server", "max_in_flight", KEY_INTEGER, "1000", RANGE(1, 1000000), PLACE(server.max_in_flight),
     .help = "requests of one connection at a time; one more gets RESOURCE_EXHAUSTED"},
    {"server", "drain_timeout", KEY_DURATION, "30s", RANGE(0, HOUR_MS), PLACE(server.drain_timeout_ms),
     .help = "time at SIGTERM for requests in flight"},
    {"server", "busy_poll_us", KEY_INTEGER, "200", RANGE(0, 10000), PLACE(server.busy_poll_us), .restart = true,
     .help = "microseconds after a request in which the loop and one worker do not sleep; 0: they always do"},

    {"limits", "frame_bytes", KEY_SIZE, "64MiB", RANGE(4 * KIB, 2 * GIB), PLACE(limits.frame_bytes),
     .help = "size of one request"},
    {"limits", "depth", KEY_INTEGER, "32", RANGE(4, 32), PLACE(limits.depth), .help = "nesting of one request"},
    {"limits", "max_batch", KEY_INTEGER, "1024", RANGE(1, 1000000), PLACE(limits.max_batch),
     .help = "texts of one encode"},
    {"limits", "upsert_docs", KEY_INTEGER, "1000", RANGE(1, 1000000), PLACE(limits.upsert_docs),
     .help = "documents of one upsert"},
    {"limits", "passages", KEY_INTEGER, "65536", RANGE(1, 100000000), PLACE(limits.passages),
     .help = "passages that the documents of one upsert are cut into; their vectors are in memory together"},
    {"limits", "text_bytes", KEY_SIZE, "1MiB", RANGE(1, 1 * GIB), PLACE(limits.text_bytes), .help = "size of a text"},
    {"limits", "meta_fields", KEY_INTEGER, "64", RANGE(1, 65536), PLACE(limits.meta_fields),
     .help = "fields in a document's meta"},
    {"limits", "meta_bytes", KEY_SIZE, "16KiB", RANGE(16, 16 * MIB), PLACE(limits.meta_bytes),
     .help = "size of a document's meta"},
    {"limits", "k", KEY_INTEGER, "10000", RANGE(1, 1000000), PLACE(limits.k), .help = "hits of one search"},
    {"limits", "ids", KEY_INTEGER, "10000", RANGE(1, 1000000), PLACE(limits.ids), .help = "ids of one get or delete"},
    {"limits", "scroll", KEY_INTEGER, "1000", RANGE(1, 1000000), PLACE(limits.scroll),
     .help = "documents of one scroll, events of one events"},
    {"limits", "filter_values", KEY_INTEGER, "10000", RANGE(1, 1000000), PLACE(limits.filter_values),
     .help = "values of one `in`"},

    {"auth", "tokens", KEY_PATH, "", PLACE(auth.tokens),
     .help =
         "file with one \"role token\" a line, of which a client must give one; empty: everybody may do everything"},

    {"storage", "path", KEY_PATH, "/var/lib/semd", PLACE(storage.path), .restart = true,
     .help = "folder of all data; where it is not given, $STATE_DIRECTORY if set"},
    {"storage", "map_size", KEY_SIZE, "1TiB", RANGE(64 * MIB, 64 * TIB), PLACE(storage.map_size), .restart = true,
     .help = "address space reserved for each LMDB environment; takes no disk"},
    {"storage", "max_size", KEY_SIZE, "0", RANGE(0, 64 * TIB), PLACE(storage.max_size), .restart = true,
     .help = "bytes on disk at which writes are refused; 0: no limit"},
    {"storage", "backup_dir", KEY_PATH, "", PLACE(storage.backup_dir), .restart = true,
     .help = "folder for backups, outside of path; empty: none are taken"},
    {"storage", "backup_growth", KEY_SIZE, "4GiB", RANGE(1 * MIB, 64 * TIB), PLACE(storage.backup_growth),
     .restart = true,
     .help =
         "bytes that the store's files may grow because of a backup that is being taken, beyond which it is given up"},
    {"storage", "export_dir", KEY_PATH, "", PLACE(storage.export_dir), .restart = true,
     .help = "folder for exported indices, outside of path; empty: none are exported"},

    {"model", "path", KEY_PATH, "", PLACE(model.path), .restart = true,
     .help = "model directory that seeds the first generation; later ignored"},
    {"model", "precision", KEY_CHOICE, "float32", PLACE(model.precision), .choices = "auto, float32, bfloat16, int8",
     .restart = true, .help = "number format of the encoder: auto, float32, bfloat16, int8"},
    {"model", "min_cosine", KEY_REAL, "0.999", REALS(0, 1), PLACE(model.min_cosine), .restart = true,
     .help = "agreement with float32 that auto asks for: the smallest cosine of a text's embedding"},

    {"encode", "workers", KEY_INTEGER, "0", RANGE(0, 1024), PLACE(encode.workers), .restart = true,
     .help = "threads that encode and search; 0: one a core"},
    {"encode", "token_budget", KEY_INTEGER, "512", RANGE(16, 1000000), PLACE(encode.token_budget), .restart = true,
     .help = "tokens of one batch of queries, and of one step of bulk work, after which queries have their turn"},
    {"encode", "batch_deadline", KEY_DURATION, "20ms", RANGE(0, HOUR_MS), PLACE(encode.batch_deadline_ms),
     .restart = true, .help = "time after which a waiting query joins the next batch whatever its length"},
    {"encode", "cache_bytes", KEY_SIZE, "16MiB", RANGE(0, 64 * GIB), PLACE(encode.cache_bytes), .restart = true,
     .help = "memory for embeddings of queries that came lately; 0: each is encoded anew"},
    {"encode", "queue", KEY_INTEGER, "4096", RANGE(1, 1000000), PLACE(encode.queue), .restart = true,
     .help = "requests waiting, queries and bulk work each; one more gets RESOURCE_EXHAUSTED"},
    {"encode", "queue_bytes", KEY_SIZE, "1GiB", RANGE(1 * MIB, 1024 * GIB), PLACE(encode.queue_bytes), .restart = true,
     .help = "memory of all requests waiting or under way; one more gets RESOURCE_EXHAUSTED"},

    {"index", "exact_below", KEY_INTEGER, "2000", RANGE(0, 100000000), PLACE(index.exact_below), .restart = true,
     .help = "documents of a collection below which search is exact"},
    {"index", "threads", KEY_INTEGER, "1", RANGE(1, 1024), PLACE(index.threads), .restart = true,
     .help = "threads that train an index"},
    {"index", "engine", KEY_CHOICE, "semd", PLACE(index.engine), .choices = "semd, faiss", .restart = true,
     .help = "whose inverted lists are searched: semd, faiss"},
    {"index", "faiss_type", KEY_CHOICE, "IVF,SQ8", PLACE(index.faiss_type), .choices = "IVF,SQ8, IVF,Flat",
     .restart = true, .help = "kind of FAISS's lists, searched or exported: IVF,SQ8, IVF,Flat"},

    {"events", "click_window", KEY_DURATION, "24h", RANGE(SECOND_MS, YEAR_MS), PLACE(events.click_window_ms),
     .restart = true, .help = "time for which a query_id takes clicks"},
    {"events", "keep", KEY_DURATION, "90d", RANGE(0, 100 * YEAR_MS), PLACE(events.keep_ms),
     .help = "time after which searches, clicks and feedback are removed; 0: never"},
    {"events", "max_size", KEY_SIZE, "4GiB", RANGE(0, 64 * TIB), PLACE(events.max_size),
     .help = "bytes of the log of searches, clicks and feedback beyond which the oldest are removed; 0: no limit"},

    {"finetune", "enabled", KEY_BOOL, "true", PLACE(finetune.enabled),
     .help = "whether jobs start by themselves (interval, new_pairs, at); the finetune method works always"},
    {"finetune", "interval", KEY_DURATION, "24h", RANGE(0, YEAR_MS), PLACE(finetune.interval_ms),
     .help = "time from the start of a job to that of the next which starts by itself; 0: never"},
    {"finetune", "new_pairs", KEY_INTEGER, "0", RANGE(0, 1000000000), PLACE(finetune.new_pairs),
     .help = "clicks and feedback since the last job's start at which one starts by itself; 0: at no number"},
    {"finetune", "at", KEY_CALENDAR, "", PLACE(finetune.at),
     .help = "local time at which a job starts by itself: 03:30, or Sun 03:30, or Mon,Thu 03:30; empty: at none"},
    {"finetune", "checkpoint_every", KEY_INTEGER, "100", RANGE(1, 1000000000), PLACE(finetune.checkpoint_every),
     .help = "steps between two checkpoints, from which training goes on after a crash; each is three times the model"},
    {"finetune", "mode", KEY_CHOICE, "full", PLACE(finetune.mode), .choices = "full, query, auto",
     .help = "what a job trains: full (and re-embeds all documents), query (the model of queries alone), auto (both, "
             "and takes the better)"},
    {"finetune", "max_embed", KEY_DURATION, "12h", RANGE(0, YEAR_MS), PLACE(finetune.max_embed_ms),
     .help =
         "time of re-embedding, as estimated, beyond which mode auto trains the model of queries alone; 0: no limit"},
    {"finetune", "min_pairs", KEY_INTEGER, "1000", RANGE(1, 1000000000), PLACE(finetune.min_pairs),
     .help = "usable pairs below which no job starts"},
    {"finetune", "min_heldout", KEY_INTEGER, "100", RANGE(1, 1000000000), PLACE(finetune.min_heldout),
     .help = "held-out queries below which no job starts"},
    {"finetune", "threads", KEY_INTEGER, "0", RANGE(0, TRAIN_THREADS_MAX), PLACE(finetune.threads),
     .help = "threads that train; 0: one a core"},
    {"finetune", "nice", KEY_INTEGER, "10", RANGE(0, 19), PLACE(train.nice),
     .help = "added to the nice value of the threads that train and re-embed; beside a busy thread 10 leaves them a "
             "tenth of a core, 19 a hundredth"},
    {"finetune", "heldout_share", KEY_REAL, "0.1", REALS(0.001, 0.5), PLACE(finetune.heldout_share),
     .help = "share of the queries that is never trained on"},
    {"finetune", "newest_share", KEY_REAL, "0.1", REALS(0, 0.5), PLACE(finetune.newest_share),
     .help = "share of a round's new queries, those that came last, that is measured with and trained on in the next "
             "round; 0: none"},
    {"finetune", "eval_documents", KEY_INTEGER, "5000", RANGE(10, 10000000), PLACE(finetune.eval_documents),
     .help = "documents that the gate ranks against, shared out over the collections; twice probe_queries of each in "
             "any case"},
    {"finetune", "probe_queries", KEY_INTEGER, "500", RANGE(200, 1000000), PLACE(finetune.probe_queries),
     .help = "queries made from each collection's own text that guard against forgetting"},
    {"finetune", "max_p", KEY_REAL, "0.01", REALS(0.000001, 1), PLACE(finetune.max_p),
     .help = "chance that a gain is luck, above which a candidate is discarded"},
    {"finetune", "max_probe_loss", KEY_REAL, "0.01", REALS(0, 1), PLACE(finetune.max_probe_loss),
     .help = "loss of MRR@10 on the probe queries of a collection, above which a candidate is discarded"},
    {"finetune", "max_drift", KEY_REAL, "2", REALS(0, 2), PLACE(finetune.max_drift),
     .help = "1 less the mean cosine of old and new vectors, above which a candidate is discarded; 2: no bound"},
    {"finetune", "keep", KEY_INTEGER, "1", RANGE(1, 100), PLACE(finetune.keep),
     .help = "previous generations kept for rollback"},
    {"finetune", "propensity_eta", KEY_REAL, "1", REALS(0, 3), PLACE(finetune.propensity.eta),
     .help = "prior of position bias: rank k is looked at 1 / k^eta times as often as the first; 0: all alike"},
    {"finetune", "harvest", KEY_BOOL, "true", PLACE(finetune.harvest),
     .help = "whether position bias is measured in the log, by documents that a query has had at several ranks"},
    {"finetune", "harvest_prior", KEY_REAL, "100", REALS(1, 1e9), PLACE(finetune.propensity.prior_clicks),
     .help = "clicks that the prior counts for at each rank"},
    {"finetune", "click_weight", KEY_REAL, "10", REALS(1, 1000), PLACE(finetune.click_weight),
     .help = "most that a click counts for because of its rank; 1: position bias is left as it is"},
    {"finetune", "user_share", KEY_REAL, "0.05", REALS(0, 1), PLACE(finetune.trust.user_share),
     .help = "share of all weight that one user has at most; 1: no bound"},
    {"finetune", "document_share", KEY_REAL, "0.05", REALS(0, 1), PLACE(finetune.trust.document_share),
     .help = "share of all weight that the pairs of one document have at most; 1: no bound"},
    {"finetune", "query_weight", KEY_REAL, "20", REALS(0, 1e9), PLACE(finetune.trust.query_weight),
     .help = "weight that the pairs of one query have together at most, in clicks at the first rank; 0: no bound"},
    {"finetune", "click_share", KEY_REAL, "0.5", REALS(0, 1), PLACE(finetune.trust.click_share),
     .help = "share of what its searches show that a user may click; above it clicks count for less; 1: no bound"},
    {"finetune", "burst_clicks", KEY_INTEGER, "10", RANGE(0, 1000000), PLACE(finetune.trust.burst_clicks),
     .help = "clicks of a user within burst_window that count whole; more count for so many together; 0: no bound"},
    {"finetune", "burst_window", KEY_DURATION, "1m", RANGE(SECOND_MS, DAY_MS), PLACE(finetune.trust.burst_ms),
     .help = "time within which they are counted"},
    {"finetune", "document_focus", KEY_REAL, "0.2", REALS(0, 1), PLACE(finetune.document_focus),
     .help = "documents clicked for eight queries or more that are less alike than this share of what is usual are not "
             "trained on; 0: all are"},
    {"finetune", "skipped_negatives", KEY_INTEGER, "1", RANGE(0, 16), PLACE(finetune.skipped_negatives),
     .help = "hard negatives of a pair, from the documents passed by above a click, at most; 0: none"},
    {"finetune", "skipped_ratio", KEY_REAL, "0.95", REALS(0.01, 10), PLACE(train.negative_ratio),
     .help = "those that train.guide scores above this times the clicked document's score are none; nor is what the "
             "current model scores so, of mined ones"},
    {"finetune", "mined_negatives", KEY_INTEGER, "0", RANGE(0, 16), PLACE(finetune.mined_negatives),
     .help = "hard negatives of a pair that has no skipped ones, from the collection's indices, at most; 0: none"},
    {"finetune", "mine_top", KEY_INTEGER, "30", RANGE(1, 10000), PLACE(finetune.mine_top),
     .help = "best documents by words, and by the current model, among which they are drawn"},
    {"finetune", "replay", KEY_BOOL, "true", PLACE(finetune.replay),
     .help = "whether pairs that an earlier job trained on are trained on again beside new ones"},
    {"finetune", "own_pairs", KEY_INTEGER, "5000", RANGE(0, 10000000), PLACE(finetune.own_pairs),
     .help = "pairs made from the collections' own text (first sentence and rest), at most; 0: none"},
    {"finetune", "temperature", KEY_REAL, "5", REALS(1, 1e6), PLACE(train.temperature),
     .help = "how alike are the shares of new pairs, old ones and own text, as n^(1/temperature); 1: all of them come"},
    {"finetune", "mixed_share", KEY_REAL, "0.1", REALS(0, 1), PLACE(train.mixed_share),
     .help = "share of a collection's pairs in batches of all collections; the other batches are of one"},
    {"finetune", "anchor_weight", KEY_REAL, "0", REALS(0, 1e6), PLACE(train.anchor_weight),
     .help = "weight in the loss of how far documents' vectors move, where documents are trained; 0: they move freely"},
    {"finetune", "watchdog", KEY_BOOL, "true", PLACE(finetune.watchdog),
     .help = "whether click-through after a flip is compared with before, and a fall told in log and metrics"},
    {"finetune", "watchdog_searches", KEY_INTEGER, "1000", RANGE(50, 65536), PLACE(finetune.watchdog_searches),
     .help = "searches of each generation at which they are compared first; again at each doubling up to 65,536"},
    {"finetune", "watchdog_p", KEY_REAL, "0.01", REALS(0.000001, 0.5), PLACE(finetune.watchdog_p),
     .help = "chance that an alarm about a generation is for nothing, all comparisons together"},
    {"finetune", "watchdog_settle", KEY_DURATION, "10m", RANGE(SECOND_MS, DAY_MS), PLACE(finetune.watchdog_settle_ms),
     .help = "time that a search is given for its clicks: later ones do not count here, and younger searches wait"},
    {"finetune", "watchdog_rollback", KEY_BOOL, "false", PLACE(finetune.watchdog_rollback),
     .help = "whether an alarm brings the generation before back by itself"},

    {"train", "learning_rate", KEY_REAL, "0.0001", REALS(1e-9, 1), PLACE(train.learning_rate),
     .help = "peak learning rate"},
    {"train", "warmup_ratio", KEY_REAL, "0.1", REALS(0, 1), PLACE(train.warmup_ratio),
     .help = "share of the steps in which the learning rate rises"},
    {"train", "schedule", KEY_CHOICE, "linear", PLACE(train_names.schedule), .choices = "linear, cosine, constant",
     .help = "how the learning rate falls after that"},
    {"train", "layer_decay", KEY_REAL, "1", REALS(0.01, 1), PLACE(train.layer_decay),
     .help = "learning rate of a layer over that of the layer above it"},
    {"train", "freeze_embeddings", KEY_BOOL, "false", PLACE(train.freeze_embeddings),
     .help = "what stands before the first layer stays as it is"},
    {"train", "freeze_layers", KEY_INTEGER, "0", RANGE(0, 1000), PLACE(train.freeze_layers),
     .help = "lowest layers that stay as they are"},
    {"train", "average", KEY_REAL, "0", REALS(0, 0.999999), PLACE(train.average),
     .help = "the model is the moving average of the steps' weights with this decay; 0: the last step's"},
    {"train", "weight_decay", KEY_REAL, "0.01", REALS(0, 1), PLACE(train.weight_decay),
     .help = "decoupled weight decay, not on biases and LayerNorm"},
    {"train", "clip_norm", KEY_REAL, "1", REALS(0, 1e6), PLACE(train.clip_norm),
     .help = "largest norm of the whole gradient; 0: no clipping"},
    {"train", "scale", KEY_REAL, "20", REALS(0.001, 1000), PLACE(train.scale),
     .help = "factor on the cosine in the loss"},
    {"train", "scale_kind", KEY_CHOICE, "fixed", PLACE(train_names.scale_kind), .choices = "fixed, scheduled, learned",
     .help = "fixed: scale; scheduled: from 1 to 23 over the first 10,000 steps or the job; learned: from scale"},
    {"train", "margin", KEY_REAL, "0", REALS(0, 2), PLACE(train.margin),
     .help = "what a query's own document must be closer by, in cosine"},
    {"train", "symmetric", KEY_BOOL, "false", PLACE(train.symmetric),
     .help = "documents are trained to find their queries as well"},
    {"train", "frequency", KEY_BOOL, "false", PLACE(train.frequency),
     .help = "documents of many pairs count less as negatives of others (logQ)"},
    {"train", "guide", KEY_PATH, "", PLACE(train.guide),
     .help = "directory of a model by which documents as close to a query as its own are no negatives; empty: none"},
    {"train", "guide_margin", KEY_REAL, "0", REALS(0, 2), PLACE(train.guide_margin),
     .help = "what may be missing in cosine to being as close"},
    {"train", "matryoshka", KEY_PATH, "", PLACE(train_names.matryoshka),
     .help = "numbers of first dimensions that are to do alone as well, e.g. 256,128,64; empty: none"},
    {"train", "matryoshka_weights", KEY_PATH, "", PLACE(train_names.matryoshka_weights),
     .help = "weight of each in the loss; empty: all 1, as the whole vector's"},
    {"train", "precision", KEY_CHOICE, "auto", PLACE(train_names.precision), .choices = "auto, float32, bfloat16",
     .help = "of matrix products, with weights in float32; auto: bfloat16 where the machine is faster in it"},
    {"train", "dropout", KEY_REAL, "0.1", REALS(-1, 0.9), PLACE(train.dropout),
     .help = "dropout in training; below 0: the model's own"},
    {"train", "batch_size", KEY_INTEGER, "64", RANGE(2, 8192), PLACE(train.batch_size), .help = "pairs of a batch"},
    {"train", "accumulate", KEY_INTEGER, "1", RANGE(1, 100000), PLACE(train.accumulate), .help = "batches of a step"},
    {"train", "epochs", KEY_INTEGER, "1", RANGE(1, 1000), PLACE(train.epochs), .help = "passes over the pairs"},
    {"train", "max_steps", KEY_INTEGER, "0", RANGE(0, 1000000000), PLACE(train.max_steps),
     .help = "steps at most; 0: no limit"},
    {"train", "max_tokens", KEY_INTEGER, "64", RANGE(0, 65536), PLACE(train.max_tokens),
     .help = "tokens of a text in training; 0: the model's own limit"},
    {"train", "shape", KEY_CHOICE, "packed", PLACE(train_names.shape), .choices = "packed, buckets",
     .help = "packed: nothing is padded; buckets: each text to 64, 128, 196 or 256 tokens"},
    {"train", "seed", KEY_INTEGER, "1", RANGE(0, UINT64_MAX), PLACE(train.seed), .help = "seed of order and dropout"},

    {"log", "level", KEY_LEVEL, "info", PLACE(log_level), .choices = "error, warning, info, debug",
     .help = "what is logged: error, warning, info, debug"},
};

const size_t config_key_count = sizeof config_keys / sizeof *config_keys;

const config_key *config_key_find(const char *section, const char *name)
{
    for (size_t i = 0; i < config_key_count; i++)
        if (strcmp(config_keys[i].section, section) == 0 && strcmp(config_keys[i].name, name) == 0)
            return &config_keys[i];
    return NULL;
}

bool config_section_known(const char *section)
{
    for (size_t i = 0; i < config_key_count; i++)
        if (strcmp(config_keys[i].section, section) == 0)
            return true;
    return false;
}
