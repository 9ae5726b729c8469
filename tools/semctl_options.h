/* semctl's commands and options as tables: the parser, the help and the test of
 * the manual page read the same ones. */
#ifndef SEM_TOOLS_SEMCTL_OPTIONS_H
#define SEM_TOOLS_SEMCTL_OPTIONS_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* What an option becomes in the request. */
typedef enum option_kind {
    OPTION_LOCAL,  /* nothing: its text is for semctl itself */
    OPTION_FLAG,   /* nothing: whether it was given is for semctl itself */
    OPTION_TEXT,   /* str */
    OPTION_COUNT,  /* unsigned integer */
    OPTION_NUMBER, /* float */
    OPTION_TRUE,   /* a flag that sends true */
    OPTION_FALSE,  /* a flag that sends false */
    OPTION_JSON,   /* a map, given as a JSON object */
    OPTION_ID,     /* an id */
    OPTION_WORDS,  /* words with commas between: an array of str */
    OPTION_VECTOR  /* a JSON array of numbers, or @FILE that holds one: bin */
} option_kind;

typedef struct option_spec {
    const char *name; /* --name */
    char letter;      /* -x, or 0 */
    option_kind kind;
    const char *argument; /* how help calls it; NULL: takes none */
    const char *key;      /* on the wire; NULL with OPTION_LOCAL and OPTION_FLAG */
    const char *help;
} option_spec;

enum { OPTIONS_MAX = 24 /* of one command, the general ones included */ };

/* What was given: text by the option's place in its table, "" for a flag, NULL: not given. */
typedef struct arguments {
    const char *values[OPTIONS_MAX];
    const char *general[OPTIONS_MAX];
    char **words; /* what is no option */
    size_t count;
} arguments;

struct semctl;

typedef struct command {
    const char *name;     /* "collection create" */
    const char *method;   /* on the wire; NULL: semctl's own */
    const char *synopsis; /* the words behind the name */
    const char *summary;  /* one sentence */
    const char *details;  /* more of them, or NULL */
    const option_spec *options;
    size_t option_count;
    size_t least, most; /* words */
    sem_status (*run)(struct semctl *ctl, const struct command *c, const arguments *a, sem_error *err);
} command;

enum { WORDS_MANY = 1 << 20 };

extern const command COMMANDS[];
extern const size_t COMMAND_COUNT;
extern const option_spec GENERAL_OPTIONS[]; /* before or after the command */
extern const size_t GENERAL_COUNT;

/* The value of an option by its name: NULL when it was not given or the command has none such. */
const char *argument_of(const command *c, const arguments *a, const char *name);

/* The general options before the command; *next is the place of the first word. */
sem_status options_parse_general(int argc, char **argv, arguments *a, int *next, sem_error *err);

/* Finds the command that argv[next...] begins with; *next moves past its name. */
sem_status options_find_command(int argc, char **argv, int *next, const command **out, sem_error *err);

/* The word at argv[next] if it is the first of several commands' names ("collection"), no command by itself, and
 * asked for help in place of the rest; else NULL. */
const char *options_find_group(int argc, char **argv, int next);

/* What follows the command's name: its own options, general ones, and words. */
sem_status options_parse_command(int argc, char **argv, int next, const command *c, arguments *a, sem_error *err);

const char *general_of(const arguments *a, const char *name);

void options_print_help(FILE *out);
void options_print_group_help(FILE *out, const char *word); /* of all commands that begin with the word */
void options_print_command_help(FILE *out, const command *c);

#endif
