/* Simulated people search, click and search again while the daemon learns from them. USAGE says how
 * it is called; mk/loop.mk has the paths. */
#include "base/names.h"
#include "bench/clicksim/run.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char USAGE[] =
    "usage: bench_clicksim [option=value]... SEMD MODEL PACKAGES.jsonl DATA OUT\n"
    "       bench_clicksim draw SVG RESULTS.jsonl...\n"
    "\n"
    "In rounds people search and click, the daemon learns (a job of its own, gate included), and MRR@10 is\n"
    "measured with queries that nobody ever searches. OUT gets results.jsonl and clicksim.svg; draw puts the\n"
    "results of several runs into one picture. DATA is a folder with medquad/ and cranfield/.\n"
    "\n"
    "  sets=italian,medquad,cranfield   and words, which needs no files and a tiny model\n"
    "  variants=none,naive,debiased,negatives\n"
    "             naive: all clicks count alike; debiased: weighed against position bias; negatives: and\n"
    "             documents passed by, and mined ones, are hard negatives\n"
    "  rounds=5   clicks=2000 (a round)   users=500   seed=1\n"
    "  model=pbm  or cascade: who clicks, then stops\n"
    "  strength=1 rank k is looked at with probability 1/k^strength\n"
    "  noise=0.02 chance of a click on what is looked at and wrong; hit=1: on what is right\n"
    "  mode=full  of the jobs: full, query, auto\n"
    "  documents=0  at most so many, those that nobody asks for left out first\n"
    "  set=section.key=value   for every daemon; may come several times\n"
    "\n"
    "A round takes two to four minutes on two idle cores, and all sets and variants are 45 of them; one set\n"
    "and one variant (sets=italian variants=debiased) are five. The time that is left is printed after each.\n";

static bool read_list(const char *text, const char **out, size_t most, const char *const *known)
{
    size_t names = 0, count = 0, place;
    while (known[names] != NULL)
        names++;
    char *copy = strdup(text);
    for (char *name = copy == NULL ? NULL : strtok(copy, ","); name != NULL; name = strtok(NULL, ",")) {
        if (count == most || !names_find(known, names, name, &place)) {
            free(copy);
            return false;
        }
        out[count++] = known[place];
    }
    free(copy);
    out[count] = NULL;
    return count > 0;
}

static bool read_number(const char *text, double least, double most, double *out)
{
    char *end;
    errno = 0;
    *out = strtod(text, &end);
    return errno == 0 && end != text && *end == '\0' && *out >= least && *out <= most;
}

static bool read_count(const char *text, double least, size_t *out)
{
    double number;
    bool good = read_number(text, least, 1e9, &number) && number == floor(number);
    *out = good ? (size_t)number : 0;
    return good;
}

static bool add_setting(run_options *o, const char *text)
{
    size_t count = 0;
    while (o->options[count] != NULL)
        count++;
    if (count == RUN_OPTIONS_MAX || strchr(text, '=') == NULL)
        return false;
    o->options[count] = text;
    return true;
}

static bool set_option(run_options *o, const char *name, size_t length, const char *value)
{
    static const char *const known[] = {"sets",     "variants", "rounds", "clicks", "users",     "seed", "model",
                                        "strength", "noise",    "hit",    "mode",   "documents", "set"};
    static const char *const models[] = {"pbm", "cascade"}, *const modes[] = {"full", "query", "auto"};
    char text[32];
    size_t place, number = 0;
    snprintf(text, sizeof text, "%.*s", (int)length, name);
    if (!names_find(known, sizeof known / sizeof *known, text, &place))
        return false;
    switch (place) {
    case 0: return read_list(value, o->sets, RUN_SETS_MAX, sets_names);
    case 1: return read_list(value, o->variants, RUN_VARIANTS_MAX, results_variants);
    case 2:
        if (!read_count(value, 0, &number))
            return false;
        o->rounds = (unsigned)number;
        return true;
    case 3: return read_count(value, 1, &o->clicks);
    case 4: return read_count(value, 1, &o->users);
    case 5:
        if (!read_count(value, 0, &number))
            return false;
        o->seed = number;
        return true;
    case 6:
        if (!names_find(models, 2, value, &number))
            return false;
        o->model.kind = number == 0 ? CLICK_PBM : CLICK_CASCADE;
        return true;
    case 7: return read_number(value, 0, 10, &o->model.strength);
    case 8: return read_number(value, 0, 1, &o->model.noise);
    case 9: return read_number(value, 0, 1, &o->model.hit);
    case 10:
        if (!names_find(modes, 3, value, &number))
            return false;
        o->mode = modes[number];
        return true;
    case 11: return read_count(value, 0, &o->places.documents);
    default: return add_setting(o, value);
    }
}

static int draw_main(int argc, char **argv)
{
    results_row *rows = NULL;
    size_t count = 0;
    sem_error err = {0};
    sem_status status = results_read(&rows, &count, (const char *const *)argv + 3, (size_t)argc - 3, &err);
    if (status == SEM_OK)
        status = results_draw(rows, count, argv[2], &err);
    free(rows);
    if (status != SEM_OK)
        fprintf(stderr, "bench_clicksim: %s\n", err.message);
    return status == SEM_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

static bool parse(run_options *o, int argc, char **argv)
{
    const char **paths[] = {&o->semd, &o->model_path, &o->places.packages, &o->places.data, &o->out};
    size_t found = 0, wanted = sizeof paths / sizeof *paths;
    for (int i = 1; i < argc; i++) {
        const char *equals = strchr(argv[i], '=');
        if (equals != NULL && !set_option(o, argv[i], (size_t)(equals - argv[i]), equals + 1)) {
            fprintf(stderr, "bench_clicksim: %s\n", argv[i]);
            return false;
        }
        if (equals == NULL && found == wanted)
            return false;
        if (equals == NULL)
            *paths[found++] = argv[i];
    }
    return found == wanted;
}

int main(int argc, char **argv)
{
    run_options o = {.sets = {"italian", "medquad", "cranfield"},
                     .variants = {"none", "naive", "debiased", "negatives"},
                     .model = {.kind = CLICK_PBM, .strength = 1, .hit = 1, .noise = 0.02},
                     .rounds = 5,
                     .clicks = 2000,
                     .users = 500,
                     .seed = 1,
                     .mode = "full"};
    sem_error err = {0};
    setvbuf(stdout, NULL, _IOLBF, 0); /* also where it goes through a pipe */
    signal(SIGPIPE, SIG_IGN);
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(USAGE, stdout);
        return EXIT_SUCCESS;
    }
    if (argc >= 4 && strcmp(argv[1], "draw") == 0)
        return draw_main(argc, argv);
    if (!parse(&o, argc, argv)) {
        fputs(USAGE, stderr);
        return 2;
    }
    if (run_all(&o, &err) != SEM_OK) {
        fflush(stdout);
        fprintf(stderr, "bench_clicksim: %s\n", err.message);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
