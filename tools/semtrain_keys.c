#include "tools/semtrain_keys.h"

#define IN_RECIPE(member) .offset = offsetof(recipe, member), .size = sizeof(((recipe *)0)->member)
#define IN_SET(member)    .offset = offsetof(recipe_set, member), .size = sizeof(((recipe_set *)0)->member)
#define RANGE(low, high)  .least = (low), .most = (high)
#define REALS(low, high)  .real_least = (low), .real_most = (high)

#define MIB ((uint64_t)1 << 20)

const config_key recipe_keys[] = {
    {"train", "model", KEY_PATH, "", IN_RECIPE(train.model), .help = "directory of the model to begin with"},
    {"train", "output", KEY_PATH, "", IN_RECIPE(train.output), .help = "new directory for what was trained"},
    {"train", "threads", KEY_INTEGER, "0", RANGE(0, TRAIN_THREADS_MAX), IN_RECIPE(train.threads),
     .help = "threads; 0: one a core"},
    {"train", "nice", KEY_INTEGER, "0", RANGE(0, 19), IN_RECIPE(train.nice),
     .help = "added to the threads' nice value"},
    {"train", "negatives", KEY_INTEGER, "1", RANGE(0, 64), IN_RECIPE(train.negatives),
     .help = "hard negatives of a pair, at most; a set may have others or none"},
    {"train", "checkpoint", KEY_PATH, "", IN_RECIPE(train.checkpoint),
     .help = "file from which a killed run goes on, to the same bits; empty: none"},
    {"train", "checkpoint_every", KEY_INTEGER, "500", RANGE(1, 1000000000), IN_RECIPE(train.checkpoint_every),
     .help = "steps between two writings of it"},
    {"train", "teacher", KEY_PATH, "", IN_RECIPE(train.teacher),
     .help = "directory of the model whose vectors the loss mse goes by"},
    {"train", "teacher_vectors", KEY_PATH, "", IN_RECIPE(train.teacher_vectors),
     .help = "file that keeps them for other passes and runs; empty: OUTPUT.teacher"},
    {"train", "guide_vectors", KEY_PATH, "", IN_RECIPE(train.guide_vectors),
     .help = "file that keeps those of guide; empty: they are computed in each pass"},

    {"mix", "sampling", KEY_CHOICE, "proportional", IN_RECIPE(mix.sampling),
     .choices = "equal, proportional, temperature, capped, weights", .help = "how often each data set gives the batch"},
    {"mix", "temperature", KEY_REAL, "5", REALS(1, 1e6), IN_RECIPE(mix.temperature),
     .help = "T of sampling temperature: share^(1/T)"},
    {"mix", "cap", KEY_INTEGER, "1000000", RANGE(1, INT64_MAX), IN_RECIPE(mix.cap),
     .help = "pairs of a set that count, at most, with sampling capped"},
    {"mix", "cross_dataset", KEY_BOOL, "false", IN_RECIPE(mix.cross_dataset),
     .help = "each pair of a batch is drawn from all sets"},

    {"mine", "output", KEY_PATH, "", IN_RECIPE(mine.output), .help = "folder that gets NAME.jsonl of each data set"},
    {"mine", "by", KEY_CHOICE, "words", IN_RECIPE(mine.by), .choices = "words, model, both",
     .help = "BM25, the nearest by train.model, or both"},
    {"mine", "top", KEY_INTEGER, "100", RANGE(1, 10000), IN_RECIPE(mine.top), .help = "candidates of each kind"},
    {"mine", "negatives", KEY_INTEGER, "4", RANGE(1, 1000), IN_RECIPE(mine.negatives),
     .help = "drawn at random of those that pass, at most"},
    {"mine", "seed", KEY_INTEGER, "1", RANGE(0, UINT64_MAX), IN_RECIPE(mine.seed), .help = "of the drawing"},
    {"mine", "keep_same_label", KEY_BOOL, "false", IN_RECIPE(mine.keep_same_label),
     .help = "a text of the pair's label may be drawn"},
    {"mine", "keep_same_text", KEY_BOOL, "false", IN_RECIPE(mine.keep_same_text),
     .help = "a text that only looks different may be drawn"},
    {"mine", "guide", KEY_PATH, "", IN_RECIPE(mine.guide),
     .help = "directory of the model that leaves out likely positives; empty: none"},
    {"mine", "guide_ratio", KEY_REAL, "0.95", REALS(0.001, 10), IN_RECIPE(mine.guide_ratio),
     .help = "share of the positive's score from which on it does"},
};
const size_t recipe_key_count = sizeof recipe_keys / sizeof *recipe_keys;

const config_key recipe_set_keys[] = {
    {"data", "form", KEY_CHOICE, "pairs", IN_SET(form), .choices = "pairs, parallel, columns, labelled, sts",
     .help = "what a line is: pairs, parallel, columns, labelled, sts"},
    {"data", "anchor", KEY_PATH, "", IN_SET(anchor), .help = "name of the member that holds the anchor"},
    {"data", "positive", KEY_PATH, "", IN_SET(positive), .help = "of the positive, or positives"},
    {"data", "negative", KEY_PATH, "", IN_SET(negative), .help = "of the hard negative, or negatives"},
    {"data", "label", KEY_PATH, "", IN_SET(label), .help = "of the label: its texts are no negatives of each other"},
    {"data", "domain", KEY_PATH, "", IN_SET(domain), .help = "of the domain: a forum, a section, a source"},
    {"data", "id", KEY_PATH, "", IN_SET(id), .help = "of the anchor's id: equal ids are one query"},
    {"data", "pair_weight", KEY_PATH, "", IN_SET(pair_weight), .help = "of the pair's weight in the loss"},
    {"data", "score", KEY_PATH, "", IN_SET(score), .help = "of the graded similarity, with form sts"},
    {"data", "columns", KEY_PATH, "", IN_SET(columns), .help = "which columns, from 1, the anchor's first; empty: all"},
    {"data", "header", KEY_BOOL, "false", IN_SET(header), .help = "a file's first line names its columns"},
    {"data", "max_line", KEY_SIZE, "1MiB", RANGE(16, 1024 * MIB), IN_SET(max_line), .help = "size of a line"},
    {"data", "window", KEY_INTEGER, "10000", RANGE(1, 100000000), IN_SET(window),
     .help = "pairs in memory, among which they are shuffled"},
    {"data", "window_bytes", KEY_SIZE, "256MiB", RANGE(1, 1024 * 1024 * MIB), IN_SET(window_bytes),
     .help = "or fewer, when they take so much memory"},
    {"data", "max_malformed", KEY_INTEGER, "100", RANGE(0, 1000000000), IN_SET(max_malformed),
     .help = "lines skipped in one pass; one more ends the run"},
    {"data", "pairs", KEY_INTEGER, "0", RANGE(0, INT64_MAX), IN_SET(pairs),
     .help = "how many it holds; 0: counted where that matters"},
    {"data", "weight", KEY_REAL, "1", REALS(1e-9, 1e9), IN_SET(weight), .help = "its share, with sampling weights"},
    {"data", "loss", KEY_CHOICE, "auto", IN_SET(loss), .choices = "auto, mnrl, cosent, mse",
     .help = "what is learnt from it: mnrl, cosent, mse; auto: cosent with form sts, else mnrl, or mse in distill"},
    {"data", "target", KEY_CHOICE, "anchor", IN_SET(target), .choices = "anchor, each",
     .help = "of loss mse: the teacher's vector of the anchor is both texts', or each has its own"},
    {"data", "by_domain", KEY_BOOL, "false", IN_SET(by_domain), .help = "batches are kept inside a domain"},
    {"data", "mixed_share", KEY_REAL, "0", REALS(0, 1), IN_SET(mixed_share),
     .help = "of the pairs, in batches of all domains all the same"},
    {"data", "domains", KEY_INTEGER, "0", RANGE(0, 65536), IN_SET(domains),
     .help = "domains found by k-means over embeddings; 0: the field domain has them"},

    {"eval", "kind", KEY_CHOICE, "retrieval", IN_SET(kind), .choices = "retrieval, sts, translation",
     .help = "what is measured: retrieval, sts, translation"},
    {"eval", "k", KEY_INTEGER, "10", RANGE(1, 1000), IN_SET(k), .help = "hits of a query that count"},
    {"eval", "corpus", KEY_PATH, "", IN_SET(corpus), .help = "retrieval: JSON lines of id, title, text"},
    {"eval", "queries", KEY_PATH, "", IN_SET(queries), .help = "JSON lines of id, text"},
    {"eval", "qrels", KEY_PATH, "", IN_SET(qrels), .help = "columns of query, document, relevance"},
    {"eval", "titles", KEY_BOOL, "true", IN_SET(titles), .help = "a document's title is put before its text"},
};
const size_t recipe_set_key_count = sizeof recipe_set_keys / sizeof *recipe_set_keys;
