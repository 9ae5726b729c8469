/* semtrain: trains and measures models offline, with the code that the daemon's job runs. */
#include "tools/semtrain.h"

#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_USAGE = 2, OVERRIDES_MAX = 256, TEXTS_MAX = 4096, PIECES_MAX = 1000000, PIECES = 8000 };
enum { KEYS_OPTION = 0x100, TEXT_OPTION, PIECES_OPTION };

static atomic_bool interrupted;

static void on_signal(int number)
{
    (void)number;
    /* A second one ends the program at once. */
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    atomic_store(&interrupted, true);
}

static const struct semtrain_command {
    const char *name, *synopsis, *summary;
    int least; /* arguments; extend-vocab takes further files */
    semtrain_run *run;
} COMMANDS[] = {
    {"train", "RECIPE", "train [train] model on all [data] sets, write a new directory", 1, run_train},
    {"distill", "RECIPE", "train [train] model to give the vectors of train.teacher", 1, run_distill},
    {"mine", "RECIPE", "find hard negatives for each [data] set", 1, run_mine},
    {"eval", "RECIPE", "measure [train] model on all [eval] sets", 1, run_eval},
    {"rank", "RECIPE", "train [train] model on each [data] set alone: what it learns there", 1, run_rank},
    {"extend-vocab", "MODEL OUT", "write MODEL to OUT with subwords of the languages of --text", 2, run_extend_vocab},
    {"datasets", "", "list public training sets: what they hold, what a model learns from each", 0, run_datasets},
};
enum { COMMAND_COUNT = sizeof COMMANDS / sizeof *COMMANDS };

static void print_help(void)
{
    fputs("usage: semtrain [OPTION]... COMMAND [RECIPE]\n\nTrains and measures sentence embedding models.\n\n"
          "commands:\n",
          stdout);
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        printf("  %-13s%-10s%s\n", COMMANDS[i].name, COMMANDS[i].synopsis, COMMANDS[i].summary);
    fputs("\noptions:\n"
          "  -o, --set SECTION.KEY=VALUE  a value in the place of the recipe's, e.g.\n"
          "                               -o train.epochs=2 or -o \"data faq.file=faq.jsonl\"\n"
          "  -j, --json                   print results as JSON, for programs\n"
          "      --text FILE...           extend-vocab: texts of the new languages, gzip or not\n"
          "      --pieces N               extend-vocab: subwords to look for (8000)\n"
          "      --keys                   list the keys of a recipe and exit\n"
          "  -h, --help                   print help and exit\n"
          "  -V, --version                print the version and exit\n\n"
          "A recipe is an INI file; man semtrain describes it. Exit status: 0 done, 1 something failed,\n"
          "2 wrong usage.\n",
          stdout);
}

static int print_keys(void)
{
    buffer text = {0};
    const bool printed = recipe_describe(&text) && fwrite(text.data, 1, text.size, stdout) == text.size;
    buffer_free(&text);
    return printed ? EXIT_SUCCESS : EXIT_FAILURE;
}

static const struct semtrain_command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(COMMANDS[i].name, name) == 0)
            return &COMMANDS[i];
    return NULL;
}

static int fail_usage(const char *problem, const char *what)
{
    fprintf(stderr, "semtrain: %s%s; try semtrain --help\n", problem, what);
    return EXIT_USAGE;
}

static bool add_text(semtrain *t, const char *path)
{
    if (t->text_count == TEXTS_MAX)
        return false;
    t->texts[t->text_count++] = path;
    return true;
}

static int run_command(semtrain *t, int argc, char **argv)
{
    if (optind == argc)
        return fail_usage("no command given", "");
    const struct semtrain_command *c = find_command(argv[optind]);
    if (c == NULL)
        return fail_usage("unknown command ", argv[optind]);
    const int given = argc - optind - 1;
    const bool takes_texts = c->run == run_extend_vocab;
    if (given < c->least || (given > c->least && !(takes_texts && t->text_count > 0)))
        return fail_usage(c->name, takes_texts    ? " takes MODEL OUT --text FILE..."
                                   : c->least > 0 ? " takes one recipe"
                                                  : " takes no argument");
    if (!takes_texts && t->text_count > 0)
        return fail_usage(c->name, " takes no --text");
    /* --text takes the files behind it too. */
    for (int i = optind + 1 + c->least; i < argc; i++)
        if (!add_text(t, argv[i]))
            return fail_usage("too many texts: ", argv[i]);
    if (takes_texts)
        t->output = argv[optind + 2];
    sem_error err = {0};
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    progress_begin(&t->bar);
    sem_status status = c->run(t, c->least > 0 ? argv[optind + 1] : NULL, &err);
    progress_clear(&t->bar);
    if (t->malformed > 0)
        fprintf(stderr, "semtrain: malformed lines skipped: %" PRIu64 "\n", t->malformed);
    if (status == SEM_OK && (fflush(stdout) != 0 || ferror(stdout)))
        status = sem_fail(&err, SEM_INTERNAL, "cannot write the output");
    if (status == SEM_OK)
        return EXIT_SUCCESS;
    fprintf(stderr, "semtrain: %s: %s\n", sem_status_name(status), err.message);
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"set", required_argument, NULL, 'o'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"keys", no_argument, NULL, KEYS_OPTION},
                                            {"text", required_argument, NULL, TEXT_OPTION},
                                            {"pieces", required_argument, NULL, PIECES_OPTION},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'V'},
                                            {0}};
    static const char *texts[TEXTS_MAX];
    const char *overrides[OVERRIDES_MAX];
    char *end;
    semtrain t = {.overrides = overrides, .cancel = &interrupted, .out = stdout, .texts = texts, .pieces = PIECES};
    for (int found; (found = getopt_long(argc, argv, "o:jhV", options, NULL)) != -1;)
        switch (found) {
        case 'o':
            if (t.override_count == OVERRIDES_MAX)
                return fail_usage("too many values: ", optarg);
            overrides[t.override_count++] = optarg;
            break;
        case TEXT_OPTION:
            if (!add_text(&t, optarg))
                return fail_usage("too many texts: ", optarg);
            break;
        case PIECES_OPTION:
            t.pieces = strtoul(optarg, &end, 10);
            if (*end != '\0' || t.pieces < 10 || t.pieces > PIECES_MAX)
                return fail_usage("--pieces takes 10 to 1000000, not ", optarg);
            break;
        case 'j': t.json = true; break;
        case 'h': print_help(); return EXIT_SUCCESS;
        case 'V': printf("semtrain %s\n", SEMD_VERSION); return EXIT_SUCCESS;
        case KEYS_OPTION: return print_keys();
        default: return EXIT_USAGE;
        }
    return run_command(&t, argc, argv);
}
