#include "tests/common/testing.h"

#include "base/files.h"
#include "daemon/config.h"
#include "daemon/config_file.h"
#include "daemon/config_keys.h"
#include "daemon/endpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *write_file(const char *text, size_t size)
{
    static char path[FILES_PATH_MAX];
    sem_error error;
    ck_ok(files_join(path, &error, "%s/semd.conf", testing_folder()));
    ck_ok(files_write(path, text, size, &error));
    return path;
}

static sem_status load_text(config *c, const char *text, sem_error *err)
{
    return config_load(c, write_file(text, strlen(text)), NULL, 0, err);
}

/* The text is refused, the message holds every word, and nothing was applied. */
static void ck_refused(const char *text, const char *word, const char *other)
{
    sem_error error;
    config c, before;
    config_defaults(&c);
    before = c;
    ck_fails(load_text(&c, text, &error), SEM_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error.message, word) != NULL && strstr(error.message, other) != NULL,
                  "'%s' lacks '%s' or '%s'", error.message, word, other);
    ck_assert_msg(memcmp(&c, &before, sizeof c) == 0, "a refused file changed the configuration");
}

static void ck_override_refused(const char *text, const char *word)
{
    sem_error error;
    config c;
    config_defaults(&c);
    ck_fails(config_load(&c, NULL, &text, 1, &error), SEM_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error.message, word) != NULL, "'%s' lacks '%s'", error.message, word);
}

START_TEST(defaults_are_those_of_the_table)
{
    config c;
    unsetenv("STATE_DIRECTORY");
    config_defaults(&c);
    ck_assert_uint_eq(c.server.listen_count, 1);
    ck_assert_str_eq(c.server.listen[0], "tcp://127.0.0.1:7700");
    ck_assert_str_eq(c.server.http, "127.0.0.1:7701");
    ck_assert_uint_eq(c.limits.frame_bytes, (size_t)64 << 20);
    ck_assert_uint_eq(c.storage.map_size, (uint64_t)1 << 40);
    ck_assert_uint_eq(c.events.click_window_ms, 86400000);
    ck_assert_str_eq(c.storage.path, "/var/lib/semd");
    ck_assert(c.finetune.enabled);
    ck_assert_uint_ge(c.train.threads, 1);
    ck_assert_int_eq(c.log_level, LOG_LEVEL_INFO);
}
END_TEST

START_TEST(train_defaults_are_those_of_the_trainer)
{
    config c;
    train_config trainer;
    config_defaults(&c);
    train_config_defaults(&trainer);
    ck_assert_double_eq(c.train.learning_rate, trainer.learning_rate);
    ck_assert_double_eq(c.train.warmup_ratio, trainer.warmup_ratio);
    ck_assert_double_eq(c.train.weight_decay, trainer.weight_decay);
    ck_assert_double_eq(c.train.clip_norm, trainer.clip_norm);
    ck_assert_double_eq(c.train.scale, trainer.scale);
    ck_assert_double_eq(c.train.dropout, trainer.dropout);
    ck_assert_uint_eq(c.train.batch_size, trainer.batch_size);
    ck_assert_uint_eq(c.train.epochs, trainer.epochs);
    ck_assert_uint_eq(c.train.max_steps, trainer.max_steps);
    ck_assert_uint_eq(c.train.max_tokens, trainer.max_tokens);
    ck_assert_uint_eq(c.train.seed, trainer.seed);
    ck_assert_int_eq(c.train.nice.added, trainer.nice.added);
    ck_assert_int_eq(c.train.scale_kind, trainer.scale_kind);
    ck_assert_double_eq(c.train.margin, trainer.margin);
    ck_assert(c.train.precision == trainer.precision);
    ck_assert(c.train.symmetric == trainer.symmetric && c.train.frequency == trainer.frequency);
    ck_assert_int_eq(c.train.schedule, trainer.schedule);
    ck_assert_double_eq(c.train.layer_decay, trainer.layer_decay);
    ck_assert(c.train.freeze_embeddings == trainer.freeze_embeddings);
    ck_assert_uint_eq(c.train.freeze_layers, trainer.freeze_layers);
    ck_assert_double_eq(c.train.average, trainer.average);
    ck_assert_uint_eq(c.train.accumulate, trainer.accumulate);
}
END_TEST

START_TEST(limits_default_to_the_wire_contract)
{
    config c;
    request_limits contract;
    config_defaults(&c);
    request_limits_defaults(&contract);
    ck_assert_mem_eq(&c.limits, &contract, sizeof contract);
}
END_TEST

START_TEST(every_default_of_the_table_is_allowed)
{
    sem_error error;
    config c;
    memset(&c, 0, sizeof c);
    for (size_t i = 0; i < config_key_count; i++) {
        ck_ok(config_key_set(&config_keys[i], &c, config_keys[i].initial, &error));
        ck_assert_ptr_eq(config_key_find(config_keys[i].section, config_keys[i].name), &config_keys[i]);
    }
}
END_TEST

START_TEST(values_take_units)
{
    sem_error error;
    config c;
    config_defaults(&c);
    ck_ok(load_text(&c,
                    "[server]\nidle_timeout = 5m\nframe_timeout=250ms\nwrite_timeout = 2 h\noutput_buffer = 8192\n"
                    "[storage]\nmap_size = 2GiB\nmax_size = 0\n[events]\nclick_window = 2d\n"
                    "[finetune]\nenabled = false\nmax_p = 5e-2\nthreads = 3\n[train]\ndropout = -1\nseed = "
                    "18446744073709551615\n[log]\nlevel = debug\n",
                    &error));
    ck_assert_uint_eq(c.server.idle_timeout_ms, 300000);
    ck_assert_uint_eq(c.server.frame_timeout_ms, 250);
    ck_assert_uint_eq(c.server.write_timeout_ms, 7200000);
    ck_assert_uint_eq(c.server.output_buffer, 8192);
    ck_assert_uint_eq(c.storage.map_size, (uint64_t)2 << 30);
    ck_assert_uint_eq(c.events.click_window_ms, 172800000);
    ck_assert(!c.finetune.enabled);
    ck_assert_double_eq(c.finetune.max_p, 0.05);
    ck_assert_uint_eq(c.train.threads, 3);
    ck_assert_uint_eq(c.train.seed, UINT64_MAX);
    ck_assert_int_eq(c.log_level, LOG_LEVEL_DEBUG);
}
END_TEST

START_TEST(training_takes_names_of_schedules_and_scales)
{
    sem_error error;
    config c;
    config_defaults(&c);
    ck_ok(load_text(
        &c,
        "[train]\nschedule = cosine\nscale_kind = learned\nprecision = bfloat16\nsymmetric = true\nmargin = 0.3\n"
        "accumulate = 4\nlayer_decay = 0.9\nfreeze_layers = 2\nfreeze_embeddings = true\n"
        "average = 0.99\nfrequency = true\n",
        &error));
    ck_assert_int_eq(c.train.schedule, SCHEDULE_COSINE);
    ck_assert_int_eq(c.train.scale_kind, MNRL_SCALE_LEARNED);
    ck_assert(c.train.precision == TRAIN_BFLOAT16);
    ck_assert(c.train.symmetric && c.train.freeze_embeddings && c.train.frequency);
    ck_assert_double_eq(c.train.margin, 0.3);
    ck_assert_uint_eq(c.train.accumulate, 4);
    ck_assert_double_eq(c.train.layer_decay, 0.9);
    ck_assert_uint_eq(c.train.freeze_layers, 2);
    ck_assert_double_eq(c.train.average, 0.99);
}
END_TEST

START_TEST(first_dimensions_are_read_in_any_order_with_their_weights)
{
    sem_error error;
    config c;
    config_defaults(&c);
    ck_assert_uint_eq(c.train.dim_count, 0);
    ck_ok(load_text(&c, "[train]\nmatryoshka = 256,64, 128\nmatryoshka_weights = 1 0.5 2\n", &error));
    ck_assert_uint_eq(c.train.dim_count, 3);
    for (size_t i = 0; i < 3; i++) {
        ck_assert_uint_eq(c.train.dims[i], (size_t)64 << i);
        ck_assert_double_eq(c.train.dim_weights[i], i == 0 ? 0.5 : i == 1 ? 2 : 1);
    }
    ck_ok(load_text(&c, "[train]\nmatryoshka = 32\nmatryoshka_weights =\n", &error));
    ck_assert_uint_eq(c.train.dim_count, 1);
    ck_assert_double_eq(c.train.dim_weights[0], 1);
    ck_refused("[finetune]\nat = 25:00\n", "25:00", "HH:MM");
    ck_refused("[finetune]\nat = daily\n", "daily", "Sun 03:30");
    ck_refused("[train]\nmatryoshka = 256,128\nmatryoshka_weights = 1\n", "as many weights", "256,128");
    ck_refused("[train]\nmatryoshka = 256\nmatryoshka_weights = 1,2\n", "as many weights", "256");
    ck_refused("[train]\nmatryoshka_weights = 1\n", "as many weights", "matryoshka");
    ck_refused("[train]\nmatryoshka = 64,many\n", "64,many", "numbers");
    ck_refused("[train]\nmatryoshka = 64,64\n", "64", "twice");
    ck_refused("[train]\nmatryoshka = 0\n", "train.matryoshka", "from 1 on");
    ck_refused("[train]\nmatryoshka = 1.5\n", "train.matryoshka", "whole numbers");
    ck_refused("[train]\nmatryoshka = nan\n", "train.matryoshka", "whole numbers");
    ck_refused("[train]\nmatryoshka = 8\nmatryoshka_weights = 0\n", "train.matryoshka_weights", "above 0");
    ck_refused("[train]\nmatryoshka = 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16\n", "train.matryoshka", "up to 15");
}
END_TEST

START_TEST(a_guide_has_a_directory_and_a_margin)
{
    sem_error error;
    config c, copy;
    config_defaults(&c);
    ck_assert_str_eq(c.train.guide, "");
    ck_ok(load_text(&c, "[train]\nguide = models/guide\nguide_margin = 0.05\n", &error));
    copy = c; /* as a job takes it */
    ck_assert_str_eq(copy.train.guide, "models/guide");
    ck_assert_double_eq(copy.train.guide_margin, 0.05);
    ck_refused("[train]\nguide_margin = 0.05\n", "guide_margin", "names no model");
    ck_refused("[train]\nguide = x\nguide_margin = 3\n", "train.guide_margin", "2");
}
END_TEST

START_TEST(errors_name_file_line_found_and_allowed)
{
    ck_refused("[server]\nlistn = tcp://127.0.0.1:1\n", "semd.conf:2", "server.listn");
    ck_refused("[server]\nlistn = tcp://127.0.0.1:1\n", "max_in_flight", "listen");
    ck_refused("[log]\n\n# x\nlevel = loud\n", "semd.conf:4", "error, warning, info, debug");
    ck_refused("[serve]\nhttp =\n", "semd.conf:1", "[serve]");
    ck_refused("http = 127.0.0.1:1\n", "semd.conf:1", "before the first [section]");
    ck_refused("[server]\nhttp\n", "semd.conf:2", "expected");
    ck_refused("[server\nhttp = \n", "semd.conf:1", "']' is missing");
    ck_refused("[server] http = 1:1\n", "semd.conf:1", "text follows");
    ck_refused("[log]\nlevel = info\n level = debug\n", "semd.conf:3", "indented");
    ck_refused("[log]\nlevel = info\nlevel = debug\n", "semd.conf:3", "line 2 already");
    ck_refused("[server]\nframe_timeout = 60\n", "semd.conf:2", "'60'");
    ck_refused("[server]\nframe_timeout = 60s\nwrite_timeout = 1.5h\n", "semd.conf:3", "ms, s, m, h or d");
    ck_refused("[storage]\nmap_size = 1TB\n", "'1TB'", "from 64MiB to 64TiB");
    ck_refused("[storage]\nmap_size = 99999999999999999999\n", "semd.conf:2", "map_size");
    ck_refused("[storage]\nmap_size = 18446744073709551615TiB\n", "semd.conf:2", "map_size");
    ck_refused("[limits]\ndepth = 33\n", "'33'", "from 4 to 32");
    ck_refused("[limits]\ndepth = -1\n", "'-1'", "from 4 to 32");
    ck_refused("[train]\nlearning_rate = nan\n", "'nan'", "a number from");
    ck_refused("[train]\nlearning_rate = 0x1p-3\n", "'0x1p-3'", "a number from");
    ck_refused("[train]\nlearning_rate =\n", "''", "a number from");
    ck_refused("[finetune]\nenabled = yes\n", "'yes'", "true, false");
    ck_refused("[model]\nprecision = int4\n", "'int4'", "auto, float32, bfloat16, int8");
    ck_refused("[model]\nprecision = auto,\n", "'auto,'", "auto, float32");
    ck_refused("[model]\nmin_cosine = 1.1\n", "'1.1'", "a number from");
    ck_refused("[server]\noutput_buffer = 1GiB\n", "output_limit", "below");
    ck_refused("[storage]\npath =\n", "storage.path", "empty");
}
END_TEST

START_TEST(lines_that_inih_would_cut_are_refused)
{
    char text[600] = "[log]\nlevel = info\n[model]\npath = /";
    size_t start = strlen(text);
    size_t line = start - strlen("[log]\nlevel = info\n[model]\n");
    sem_error error;
    config c;
    config_defaults(&c);
    memset(text + start, 'm', CONFIG_LINE_MAX - line);
    strcpy(text + start + CONFIG_LINE_MAX - line, "\n[server]\nhttp =\n");
    ck_ok(load_text(&c, text, &error));
    ck_assert_uint_eq(strlen(c.model.path), 1 + CONFIG_LINE_MAX - line);
    ck_assert_str_eq(c.server.http, "");

    memset(text + start, 'm', CONFIG_LINE_MAX + 1 - line);
    strcpy(text + start + CONFIG_LINE_MAX + 1 - line, "\n");
    ck_refused(text, "semd.conf:4", "199 bytes (at most 198)");
}
END_TEST

START_TEST(a_nul_byte_is_refused)
{
    sem_error error;
    config c;
    config_defaults(&c);
    const char text[] = "[log]\nlevel = info\0\nlevel = debug\n";
    ck_fails(config_load(&c, write_file(text, sizeof text - 1), NULL, 0, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "NUL"));
}
END_TEST

START_TEST(a_missing_file_is_an_error)
{
    sem_error error;
    config c;
    config_defaults(&c);
    ck_assert_int_ne(config_load(&c, "/nonexistent/semd.conf", NULL, 0, &error), SEM_OK);
    ck_assert_ptr_nonnull(strstr(error.message, "/nonexistent/semd.conf"));
}
END_TEST

START_TEST(odd_but_right_files_are_read)
{
    sem_error error;
    config c;
    config_defaults(&c);
    ck_ok(load_text(&c, "\xEF\xBB\xBF[log]\r\nlevel = debug ; why\r\n  \r\n  # indented comment\r\n[log]\r\n", &error));
    ck_assert_int_eq(c.log_level, LOG_LEVEL_DEBUG);
    ck_ok(load_text(&c, "", &error));
    ck_ok(load_text(&c, "[log]\nlevel = warning", &error));
    ck_assert_int_eq(c.log_level, LOG_LEVEL_WARNING);
}
END_TEST

START_TEST(listen_in_the_file_replaces_the_default_and_o_replaces_the_file)
{
    sem_error error;
    config c;
    config_defaults(&c);
    const char text[] = "[server]\nlisten = tcp://127.0.0.1:1\nlisten = unix:/run/x.sock\n";
    const char *path = write_file(text, strlen(text));
    ck_ok(config_load(&c, path, NULL, 0, &error));
    ck_assert_uint_eq(c.server.listen_count, 2);
    ck_assert_str_eq(c.server.listen[1], "unix:/run/x.sock");

    const char *overrides[] = {"server.listen=tcp://[::1]:0", "log.level=error", "server.listen=tcp://*:9"};
    ck_ok(config_load(&c, path, overrides, 3, &error));
    ck_assert_uint_eq(c.server.listen_count, 2);
    ck_assert_str_eq(c.server.listen[0], "tcp://[::1]:0");
    ck_assert_str_eq(c.server.listen[1], "tcp://*:9");
    ck_assert_int_eq(c.log_level, LOG_LEVEL_ERROR);
}
END_TEST

START_TEST(bad_overrides_are_refused)
{
    ck_override_refused("server", "section.key=value");
    ck_override_refused("server.listen", "section.key=value");
    ck_override_refused("=", "section.key=value");
    ck_override_refused("log=a.b", "section.key=value");
    ck_override_refused("server.x=1", "server.x");
    ck_override_refused("server.listen=tls://127.0.0.1:1", "no TLS");
    ck_override_refused("server.listen=", "no address");
    ck_override_refused("server.listen=tcp://127.0.0.1", "no port");
    ck_override_refused("server.listen=tcp://::1:80", "brackets");
    ck_override_refused("server.listen=tcp://:80", "no host");
    ck_override_refused("server.listen=tcp://a:65536", "65536");
    ck_override_refused("server.listen=tcp://a:-1", "'-1'");
    ck_override_refused("server.listen=unix:relative", "absolute");
    ck_override_refused("server.http=7701", "no port");
}
END_TEST

START_TEST(too_many_listeners_are_refused)
{
    sem_error error;
    config c;
    const char *overrides[CONFIG_LISTEN_MAX + 1];
    config_defaults(&c);
    for (size_t i = 0; i <= CONFIG_LISTEN_MAX; i++)
        overrides[i] = "server.listen=tcp://127.0.0.1:0";
    ck_fails(config_load(&c, NULL, overrides, CONFIG_LISTEN_MAX + 1, &error), SEM_INVALID_ARGUMENT);
    ck_ok(config_load(&c, NULL, overrides, CONFIG_LISTEN_MAX, &error));
}
END_TEST

START_TEST(a_value_is_the_same_when_it_is_read_from_its_text)
{
    sem_error error;
    config given, read;
    const char *overrides[] = {"train.learning_rate=3.3e-5", "train.dropout=-1",      "finetune.harvest=false",
                               "finetune.interval=90m",      "finetune.threads=3",    "finetune.at=Mon,Thu 03:30",
                               "train.guide=/srv/a model",   "train.schedule=cosine", "train.matryoshka=64 128",
                               "storage.max_size=3GiB"};
    config_defaults(&given);
    config_defaults(&read);
    ck_ok(config_load(&given, NULL, overrides, sizeof overrides / sizeof *overrides, &error));
    for (size_t i = 0; i < config_key_count; i++) {
        const config_key *key = &config_keys[i];
        char text[FILES_PATH_MAX + 64], again[FILES_PATH_MAX + 64], small[1];
        if (key->kind == KEY_LISTEN || key->kind == KEY_LEVEL) {
            ck_assert(!config_key_text(key, &given, text, sizeof text));
            continue;
        }
        ck_assert(config_key_text(key, &given, text, sizeof text));
        ck_assert_msg(text[0] == '\0' || !config_key_text(key, &given, small, sizeof small), "%s", key->name);
        ck_ok(config_key_set(key, &read, text, &error));
        ck_assert(config_key_text(key, &read, again, sizeof again));
        ck_assert_str_eq(text, again);
    }
    ck_assert_double_eq(read.train.learning_rate, 3.3e-5);
    ck_assert_double_eq(read.train.dropout, -1);
    ck_assert(!read.finetune.harvest);
    ck_assert_uint_eq(read.finetune.interval_ms, 90 * 60 * 1000);
    ck_assert_uint_eq(read.finetune.threads, 3);
    ck_assert_str_eq(read.finetune.at, "Mon,Thu 03:30");
    ck_assert_str_eq(read.train.guide, "/srv/a model");
    ck_assert_uint_eq(read.storage.max_size, (uint64_t)3 << 30);
    ck_ok(config_resolve_train(&read, &error));
    ck_assert_int_eq(read.train.schedule, SCHEDULE_COSINE);
    ck_assert_uint_eq(read.train.dim_count, 2);
}
END_TEST

START_TEST(the_state_directory_is_the_default_store)
{
    sem_error error;
    config c;
    setenv("STATE_DIRECTORY", "/var/lib/private/semd:/other", 1);
    config_defaults(&c);
    ck_assert_str_eq(c.storage.path, "/var/lib/private/semd");
    ck_ok(load_text(&c, "[storage]\npath = /srv/semd\n", &error));
    ck_assert_str_eq(c.storage.path, "/srv/semd");
    unsetenv("STATE_DIRECTORY");
}
END_TEST

START_TEST(reload_copies_what_it_may_and_names_the_rest)
{
    sem_error error;
    config c, next;
    char names[512];
    const char *overrides[] = {
        "log.level=debug",  "limits.k=7",     "server.frame_timeout=5s", "server.http=",
        "encode.workers=3", "train.scale=14", "finetune.threads=2",      "server.listen=tcp://*:1"};
    config_defaults(&c);
    config_defaults(&next);
    ck_ok(config_load(&next, NULL, overrides, 8, &error));
    config_reload(&c, &next, names, sizeof names);
    ck_assert_str_eq(names, "server.listen server.http encode.workers");
    ck_assert_int_eq(c.log_level, LOG_LEVEL_DEBUG);
    ck_assert_uint_eq(c.limits.k, 7);
    ck_assert_uint_eq(c.server.frame_timeout_ms, 5000);
    ck_assert_double_eq(c.train.scale, 14);
    ck_assert_uint_eq(c.train.threads, 2);
    ck_assert_str_eq(c.server.http, "127.0.0.1:7701");
    ck_assert_uint_eq(c.encode.workers, 0);
    config_reload(&c, &c, names, sizeof names);
    ck_assert_str_eq(names, "");
}
END_TEST

static FILE *open_project_file(const char *name)
{
    char path[FILES_PATH_MAX];
    const char *root = getenv("SEMD_ROOT");
    snprintf(path, sizeof path, "%s/%s", root != NULL ? root : ".", name);
    FILE *file = fopen(path, "r");
    ck_assert_msg(file != NULL, "%s is missing", path);
    return file;
}

/* conf/semd.conf with "#key = value" uncommented. Static buffer. */
static char *whole_conf(void)
{
    static char text[65536];
    char line[512];
    FILE *file = open_project_file("conf/semd.conf");
    text[0] = '\0';
    while (fgets(line, sizeof line, file) != NULL) {
        bool is_key = line[0] == '#' && line[1] >= 'a' && line[1] <= 'z';
        ck_assert_uint_lt(strlen(text) + strlen(line), sizeof text);
        strcat(text, is_key ? line + 1 : line);
    }
    fclose(file);
    return text;
}

START_TEST(the_conf_file_documents_every_key_with_its_default_and_no_other)
{
    sem_error error;
    char section[64] = "", line[512];
    bool seen[256] = {false};
    config c, defaults;
    config_defaults(&c);
    defaults = c;
    ck_ok(load_text(&c, whole_conf(), &error));
    config_reload(&c, &defaults, line, sizeof line);
    ck_assert_str_eq(line, "");

    for (char *p = whole_conf(), *end; (end = strchr(p, '\n')) != NULL; p = end + 1) {
        *end = '\0';
        if (p[0] == '[') {
            snprintf(section, sizeof section, "%.*s", (int)strcspn(p + 1, "]"), p + 1);
            continue;
        }
        if (p[0] == '#' || p[0] == '\0')
            continue;
        size_t name = strcspn(p, " =");
        ck_assert_uint_lt(name, sizeof line);
        memcpy(line, p, name);
        line[name] = '\0';
        const config_key *key = config_key_find(section, line);
        ck_assert_msg(key != NULL, "conf/semd.conf has %s.%s", section, line);
        const char *value = strchr(p, '=') + 1;
        ck_assert_msg(strcmp(value + strspn(value, " "), key->initial) == 0, "%s.%s: %s instead of %s", section, line,
                      value, key->initial);
        ck_assert_msg(!seen[key - config_keys], "%s.%s stands twice", section, line);
        seen[key - config_keys] = true;
    }
    for (size_t i = 0; i < config_key_count; i++)
        ck_assert_msg(seen[i], "conf/semd.conf lacks %s.%s", config_keys[i].section, config_keys[i].name);
}
END_TEST

START_TEST(the_manual_page_names_every_key_with_its_default_and_no_other)
{
    static char text[65536];
    char entry[512];
    FILE *file = open_project_file("docs/man/semd.conf.5");
    size_t size = fread(text, 1, sizeof text - 1, file), entries = 0;
    fclose(file);
    text[size] = '\0';
    for (size_t i = 0; i < config_key_count; i++) {
        const config_key *key = &config_keys[i];
        /* A minus is written as \- in a manual page. */
        snprintf(entry, sizeof entry, ".BR %s \" = %s%s\"\n", key->name, key->initial[0] == '-' ? "\\" : "",
                 key->initial);
        ck_assert_msg(strstr(text, entry) != NULL, "docs/man/semd.conf.5 lacks %s", entry);
    }
    for (const char *p = text; (p = strstr(p, " \" = ")) != NULL; p++)
        entries++;
    ck_assert_uint_eq(entries, config_key_count);
}
END_TEST

START_TEST(help_names_every_key)
{
    buffer text = {0};
    ck_assert(config_describe(&text));
    ck_assert(buffer_append(&text, "", 1));
    for (size_t i = 0; i < config_key_count; i++)
        ck_assert_msg(strstr((const char *)text.data, config_keys[i].name) != NULL, "%s", config_keys[i].name);
    buffer_free(&text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *tests = tcase_create("config");
    tcase_add_test(tests, defaults_are_those_of_the_table);
    tcase_add_test(tests, train_defaults_are_those_of_the_trainer);
    tcase_add_test(tests, limits_default_to_the_wire_contract);
    tcase_add_test(tests, every_default_of_the_table_is_allowed);
    tcase_add_test(tests, values_take_units);
    tcase_add_test(tests, training_takes_names_of_schedules_and_scales);
    tcase_add_test(tests, first_dimensions_are_read_in_any_order_with_their_weights);
    tcase_add_test(tests, a_guide_has_a_directory_and_a_margin);
    tcase_add_test(tests, errors_name_file_line_found_and_allowed);
    tcase_add_test(tests, lines_that_inih_would_cut_are_refused);
    tcase_add_test(tests, a_nul_byte_is_refused);
    tcase_add_test(tests, a_missing_file_is_an_error);
    tcase_add_test(tests, odd_but_right_files_are_read);
    tcase_add_test(tests, listen_in_the_file_replaces_the_default_and_o_replaces_the_file);
    tcase_add_test(tests, bad_overrides_are_refused);
    tcase_add_test(tests, too_many_listeners_are_refused);
    tcase_add_test(tests, the_state_directory_is_the_default_store);
    tcase_add_test(tests, reload_copies_what_it_may_and_names_the_rest);
    tcase_add_test(tests, a_value_is_the_same_when_it_is_read_from_its_text);
    tcase_add_test(tests, the_conf_file_documents_every_key_with_its_default_and_no_other);
    tcase_add_test(tests, the_manual_page_names_every_key_with_its_default_and_no_other);
    tcase_add_test(tests, help_names_every_key);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
