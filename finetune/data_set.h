/* What is to be known of a data set to read it. docs/man/semtrain.1 describes the forms. */
#ifndef SEM_FINETUNE_DATA_SET_H
#define SEM_FINETUNE_DATA_SET_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum data_form {
    DATA_PAIRS,    /* JSON lines: ["a", "b"], ["a", "p", "n", ...], {"query", "pos", "neg"}, {"set"} */
    DATA_PARALLEL, /* two files whose lines belong together */
    DATA_COLUMNS,  /* tabs between: a text, then one or more that mean the same */
    DATA_LABELLED, /* a text and its label: two texts of one label are a pair */
    DATA_STS       /* two texts and how alike they are */
} data_form;

/* Names of an object's members, NULL: not looked at (or by the form's own name). One that the
 * form does not read is refused. */
typedef struct data_fields {
    const char *anchor; /* DATA_PAIRS: objects then hold one text under this name, and what follows */
    const char *positive;
    const char *negative; /* a text or an array of texts */
    const char *label;
    const char *domain;
    const char *id; /* of the anchor: equal ids are one query */
    const char *weight;
    const char *score;
} data_fields;

/* A line that was skipped. */
typedef void data_report(void *context, const char *file, uint64_t line, const char *why);

enum { DATA_COLUMNS_MAX = 32 };

/* All that is pointed at is borrowed for as long as what was opened with it. */
typedef struct data_options {
    const char *name; /* for messages */
    data_form form;
    const char *const *files; /* [file_count]; DATA_PARALLEL: the two of a pair behind each other. Names
                               * that end in .json or .jsonl (and .gz) hold JSON, others columns, where
                               * the form allows both */
    size_t file_count;
    data_fields fields;
    size_t columns[DATA_COLUMNS_MAX]; /* which, from 1, the anchor's first; column_count 0: all, in order */
    size_t column_count;
    bool header;          /* the first line of a file of columns names them: it is passed over */
    size_t longest;       /* bytes of a line */
    uint64_t seed;        /* of every order */
    size_t window;        /* examples in memory, among which they are shuffled */
    size_t window_bytes;  /* or fewer, when they take so much memory */
    size_t max_malformed; /* lines skipped in one pass; one more is an error */
    data_report *report;  /* NULL: malformed lines are only counted */
    void *context;        /* of report */
} data_options;

/* Windows of 10,000 examples or 256 MiB, lines of 1 MiB, 100 malformed lines, seed 1. */
data_options data_options_defaults(void);

/* Names what is wrong. */
sem_status data_options_check(const data_options *o, sem_error *err);

/* "pairs", "parallel", "columns", "labelled", "sts". */
const char *data_form_name(data_form form);
bool data_form_parse(const char *name, data_form *out);

/* Columns that a line of the form has at least; 0: a form without columns. */
size_t data_form_columns(data_form form);

#endif
