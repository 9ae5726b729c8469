#include "tools/semctl_options.h"

#include <getopt.h>
#include <string.h>

enum {
    OWN_BASE = 0x1000,     /* what getopt_long returns for the command's own option 0 */
    GENERAL_BASE = 0x2000, /* and for the general option 0 */
    HELP_COLUMN = 28
};

/* getopt's own form of our tables. */
typedef struct getopt_form {
    struct option options[2 * OPTIONS_MAX + 1];
    size_t count;
    char letters[4 * OPTIONS_MAX + 3];
} getopt_form;

static void add_options(getopt_form *form, const option_spec *specs, size_t count, int base)
{
    char *letter = form->letters + strlen(form->letters);
    for (size_t i = 0; i < count; i++) {
        form->options[form->count++] = (struct option){
            .name = specs[i].name,
            .has_arg = specs[i].argument != NULL ? required_argument : no_argument,
            .val = base + (int)i,
        };
        if (specs[i].letter == '\0')
            continue;
        *letter++ = specs[i].letter;
        if (specs[i].argument != NULL)
            *letter++ = ':';
    }
    *letter = '\0';
}

static const option_spec *by_letter(const option_spec *specs, size_t count, int letter, size_t *place)
{
    for (*place = 0; *place < count; (*place)++)
        if (specs[*place].letter != '\0' && specs[*place].letter == letter)
            return &specs[*place];
    return NULL;
}

static sem_status fail_usage(const command *c, const char *problem, const char *what, sem_error *err)
{
    return sem_fail(err, SEM_INVALID_ARGUMENT, "%s%s; try semctl %s%s--help", problem, what, c != NULL ? c->name : "",
                    c != NULL ? " " : "");
}

/* Puts what getopt found into *a. */
static sem_status take_option(int found, const command *c, arguments *a, char **argv, sem_error *err)
{
    const char *value = optarg != NULL ? optarg : "";
    size_t place;
    if (found >= GENERAL_BASE) {
        a->general[found - GENERAL_BASE] = value;
    } else if (found >= OWN_BASE) {
        a->values[found - OWN_BASE] = value;
    } else if (found == '?') {
        const char *text = argv[optind - 1];
        char letter[3] = {'-', (char)optopt, '\0'};
        return fail_usage(c, "unknown option ", optopt > 0 && optopt < OWN_BASE ? letter : text, err);
    } else if (found == ':') {
        return fail_usage(c, argv[optind - 1], " needs a value", err);
    } else if (c != NULL && by_letter(c->options, c->option_count, found, &place) != NULL) {
        a->values[place] = value;
    } else if (by_letter(GENERAL_OPTIONS, GENERAL_COUNT, found, &place) != NULL) {
        a->general[place] = value;
    }
    return SEM_OK;
}

static sem_status run_getopt(int argc, char **argv, const getopt_form *form, const command *c, arguments *a,
                             sem_error *err)
{
    optind = 0; /* glibc: begin anew */
    opterr = 0;
    int found;
    while ((found = getopt_long(argc, argv, form->letters, form->options, NULL)) != -1) {
        sem_status status = take_option(found, c, a, argv, err);
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}

sem_status options_parse_general(int argc, char **argv, arguments *a, int *next, sem_error *err)
{
    getopt_form form = {.letters = "+:"}; /* +: stop at the command */
    add_options(&form, GENERAL_OPTIONS, GENERAL_COUNT, GENERAL_BASE);
    sem_status status = run_getopt(argc, argv, &form, NULL, a, err);
    *next = optind;
    return status;
}

sem_status options_parse_command(int argc, char **argv, int next, const command *c, arguments *a, sem_error *err)
{
    getopt_form form = {.letters = ":"};
    add_options(&form, c->options, c->option_count, OWN_BASE);
    add_options(&form, GENERAL_OPTIONS, GENERAL_COUNT, GENERAL_BASE);
    char **rest = argv + next - 1; /* getopt passes over what it takes for the program's name */
    sem_status status = run_getopt(argc - next + 1, rest, &form, c, a, err);
    if (status != SEM_OK)
        return status;
    a->words = rest + optind;
    a->count = (size_t)(argc - next + 1 - optind);
    if (general_of(a, "help") != NULL)
        return SEM_OK;
    if (a->count < c->least)
        return fail_usage(c, "something is missing; it takes ", c->synopsis, err);
    if (a->count > c->most)
        return fail_usage(c, "a word too many: ", a->words[c->most], err);
    return SEM_OK;
}

/* How many of argv's words the name takes, 0: it is another one. */
static int match_name(const char *name, int argc, char **argv, int next)
{
    int words = 0;
    while (*name != '\0') {
        size_t length = strcspn(name, " ");
        if (next + words >= argc || strlen(argv[next + words]) != length ||
            strncmp(argv[next + words], name, length) != 0)
            return 0;
        words++;
        name += length + (name[length] == ' ');
    }
    return words;
}

/* The first command from c on whose name is this word and more words; NULL: none. */
static const command *begins_command(const command *c, const char *word)
{
    const size_t length = strlen(word);
    for (; c < COMMANDS + COMMAND_COUNT; c++)
        if (strncmp(c->name, word, length) == 0 && c->name[length] == ' ')
            return c;
    return NULL;
}

sem_status options_find_command(int argc, char **argv, int *next, const command **out, sem_error *err)
{
    *out = NULL;
    if (*next >= argc)
        return fail_usage(NULL, "no command given", "", err);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        int words = match_name(COMMANDS[i].name, argc, argv, *next);
        if (words == 0)
            continue;
        *next += words;
        *out = &COMMANDS[i];
        return SEM_OK;
    }
    if (begins_command(COMMANDS, argv[*next]) != NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s is not a whole command; try semctl %s --help", argv[*next],
                        argv[*next]);
    return fail_usage(NULL, "unknown command ", argv[*next], err);
}

static bool is_whole(const char *word)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(COMMANDS[i].name, word) == 0)
            return true;
    return false;
}

const char *options_find_group(int argc, char **argv, int next)
{
    const bool asks = next + 2 == argc && (strcmp(argv[next + 1], "--help") == 0 || strcmp(argv[next + 1], "-h") == 0);
    return asks && !is_whole(argv[next]) && begins_command(COMMANDS, argv[next]) != NULL ? argv[next] : NULL;
}

const char *argument_of(const command *c, const arguments *a, const char *name)
{
    for (size_t i = 0; i < c->option_count; i++)
        if (strcmp(c->options[i].name, name) == 0)
            return a->values[i];
    return NULL;
}

const char *general_of(const arguments *a, const char *name)
{
    for (size_t i = 0; i < GENERAL_COUNT; i++)
        if (strcmp(GENERAL_OPTIONS[i].name, name) == 0)
            return a->general[i];
    return NULL;
}

/* --- help */

static void print_options(FILE *out, const option_spec *specs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char left[64];
        char letter[5] = "    ";
        if (specs[i].letter != '\0')
            snprintf(letter, sizeof letter, "-%c, ", specs[i].letter);
        snprintf(left, sizeof left, "  %s--%s%s%s", letter, specs[i].name, specs[i].argument != NULL ? " " : "",
                 specs[i].argument != NULL ? specs[i].argument : "");
        fprintf(out, "%-*s %s\n", HELP_COLUMN, left, specs[i].help);
    }
}

void options_print_help(FILE *out)
{
    fputs("usage: semctl [OPTION]... COMMAND [ARGUMENT]...\n\nTalks to a semd daemon.\n\ncommands:\n", out);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-20s %s\n", COMMANDS[i].name, COMMANDS[i].summary);
    fputs("\noptions of every command:\n", out);
    print_options(out, GENERAL_OPTIONS, GENERAL_COUNT);
    fputs("\nsemctl COMMAND --help tells more. Exit status: 0 done, 1 something failed, 2 wrong usage,\n"
          "3 refused because the time has not come, 4 it is there or under way already.\n",
          out);
}

void options_print_group_help(FILE *out, const char *word)
{
    fprintf(out, "usage: semctl %s COMMAND [OPTION]... [ARGUMENT]...\n\ncommands:\n", word);
    for (const command *c = begins_command(COMMANDS, word); c != NULL; c = begins_command(c + 1, word))
        fprintf(out, "  %-20s %s\n", c->name, c->summary);
    fprintf(out, "\nsemctl %s COMMAND --help tells more.\n", word);
}

void options_print_command_help(FILE *out, const command *c)
{
    fprintf(out, "usage: semctl %s [OPTION]...%s%s\n\n%s\n", c->name, c->synopsis[0] != '\0' ? " " : "", c->synopsis,
            c->summary);
    if (c->details != NULL)
        fprintf(out, "%s\n", c->details);
    if (c->option_count > 0)
        fputs("\noptions:\n", out);
    print_options(out, c->options, c->option_count);
    fputs("\noptions of every command:\n", out);
    print_options(out, GENERAL_OPTIONS, GENERAL_COUNT);
}
