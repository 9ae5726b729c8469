#include "finetune/data_reader.h"

#include "base/checked.h"
#include "base/random.h"
#include "finetune/data_lines.h"

#include <string.h>

/* Streams of random numbers that one seed is divided into. */
enum { DRAW_FILES = 1, DRAW_LINES = 2 };

struct data_reader {
    const data_options *options;
    size_t sides;         /* files read together: 2 in a parallel text, else 1 */
    size_t groups;        /* of that many files */
    uint32_t *order;      /* [groups] in this epoch */
    data_lines *lines[2]; /* open while its group is read */
    data_place place;     /* offsets are the lines' own while a group is open */
};

sem_status data_reader_open(data_reader **out, const data_options *options, sem_error *err)
{
    *out = NULL;
    sem_status status = data_options_check(options, err);
    if (status != SEM_OK)
        return status;
    data_reader *r = calloc(1, sizeof *r);
    if (r == NULL)
        return sem_fail_memory(err, options->name);
    r->options = options;
    r->sides = options->form == DATA_PARALLEL ? 2 : 1;
    r->groups = options->file_count / r->sides;
    r->order = checked_realloc(NULL, r->groups, sizeof *r->order);
    if (r->order == NULL) {
        data_reader_close(r);
        return sem_fail_memory(err, options->name);
    }
    data_reader_begin(r, 0);
    *out = r;
    return SEM_OK;
}

static void close_group(data_reader *r)
{
    for (size_t side = 0; side < 2; side++) {
        data_lines_close(r->lines[side]);
        r->lines[side] = NULL;
    }
}

void data_reader_close(data_reader *r)
{
    if (r == NULL)
        return;
    close_group(r);
    free(r->order);
    free(r);
}

void data_reader_begin(data_reader *r, uint64_t epoch)
{
    random_state draw;
    close_group(r);
    r->place = (data_place){.epoch = epoch};
    random_seed(&draw, random_at(random_at(r->options->seed, DRAW_FILES), epoch));
    for (size_t i = 0; i < r->groups; i++) {
        size_t j = (size_t)random_below(&draw, i + 1);
        r->order[i] = r->order[j];
        r->order[j] = (uint32_t)i;
    }
}

/* The group's number as the options have it. */
static uint32_t group_of(const data_reader *r)
{
    return r->order[r->place.file];
}

static const char *file_of(const data_reader *r, size_t side)
{
    return r->options->files[group_of(r) * r->sides + side];
}

static bool ends_with(const char *text, size_t length, const char *with)
{
    const size_t count = strlen(with);
    return length >= count && memcmp(text + length - count, with, count) == 0;
}

static bool is_json(const char *file)
{
    size_t length = strlen(file);
    if (ends_with(file, length, ".gz"))
        length -= strlen(".gz");
    return ends_with(file, length, ".json") || ends_with(file, length, ".jsonl");
}

/* A file of columns whose first line names them. */
static bool has_header(const data_reader *r)
{
    const data_form form = r->options->form;
    return r->options->header && form != DATA_PAIRS && form != DATA_PARALLEL && !is_json(file_of(r, 0));
}

/* Opens the group that place names, at its line. */
static sem_status open_group(data_reader *r, sem_error *err)
{
    sem_status status = SEM_OK;
    for (size_t side = 0; side < r->sides && status == SEM_OK; side++) {
        status = data_lines_open(&r->lines[side], file_of(r, side), r->options->longest, err);
        if (status == SEM_OK && r->place.line > 0)
            status = data_lines_seek(r->lines[side], r->place.offset[side], r->place.line, err);
    }
    if (status == SEM_OK && r->place.line == 0 && has_header(r)) {
        data_line line;
        bool more;
        status = data_lines_next(r->lines[0], &line, &more, err);
    }
    if (status != SEM_OK) {
        close_group(r);
        return sem_error_prefix(err, "data set %s", r->options->name);
    }
    return SEM_OK;
}

static void note_place(data_reader *r)
{
    for (size_t side = 0; side < r->sides; side++)
        data_lines_tell(r->lines[side], &r->place.offset[side], &r->place.line);
}

/* The group's next lines; *more false at its end. */
static sem_status next_lines(data_reader *r, data_line lines[2], bool *more, sem_error *err)
{
    bool there[2] = {false, false};
    sem_status status = SEM_OK;
    for (size_t side = 0; side < r->sides && status == SEM_OK; side++)
        status = data_lines_next(r->lines[side], &lines[side], &there[side], err);
    if (status != SEM_OK)
        return sem_error_prefix(err, "data set %s", r->options->name);
    if (r->sides == 2 && there[0] != there[1])
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "data set %s: %s ends behind line %llu, %s goes on: they must have the same number of lines",
                        r->options->name, file_of(r, there[0]), (unsigned long long)r->place.line,
                        file_of(r, !there[0]));
    note_place(r);
    *more = there[0];
    return SEM_OK;
}

/* SEM_OK: the line is to be skipped. */
static sem_status take_malformed(data_reader *r, size_t side, sem_error *why, sem_error *err)
{
    const data_options *o = r->options;
    const char *file = file_of(r, side);
    r->place.malformed++;
    if (r->place.epoch == 0 && o->report != NULL)
        o->report(o->context, file, r->place.line, why->message);
    if (r->place.malformed <= o->max_malformed)
        return SEM_OK;
    return sem_fail(err, SEM_INVALID_ARGUMENT,
                    "data set %s: %s:%llu: %s; that is malformed line %llu, and max_malformed is %zu", o->name, file,
                    (unsigned long long)r->place.line, why->message, (unsigned long long)r->place.malformed,
                    o->max_malformed);
}

/* *given: the line was good. */
static sem_status give_line(data_reader *r, const data_line lines[2], data_sink *sink, void *context, bool *given,
                            sem_error *err)
{
    const data_options *o = r->options;
    sem_error why = {0};
    *given = false;
    for (size_t side = 0; side < r->sides; side++)
        if (lines[side].too_long) {
            sem_fail(&why, SEM_INVALID_ARGUMENT, "the line is longer than %zu bytes", o->longest);
            return take_malformed(r, side, &why, err);
        }
    const data_source source = {
        .options = o,
        .json = is_json(file_of(r, 0)),
        .file = group_of(r),
        .line = r->place.line,
        .draw =
            random_at(random_at(random_at(o->seed, DRAW_LINES), r->place.epoch), random_at(group_of(r), r->place.line)),
    };
    const data_text line = {lines[0].bytes, lines[0].length}, other = {lines[1].bytes, lines[1].length};
    sem_status status = data_parse(&source, line, other, sink, context, &why);
    if (status == SEM_INVALID_ARGUMENT)
        return take_malformed(r, 0, &why, err);
    *given = status == SEM_OK;
    if (status != SEM_OK && err != NULL)
        *err = why;
    return status;
}

sem_status data_reader_next(data_reader *r, data_sink *sink, void *context, bool *more, sem_error *err)
{
    for (;;) {
        data_line lines[2] = {{.bytes = ""}, {.bytes = ""}};
        bool there = false, given = false;
        if (r->place.file == r->groups) {
            *more = false;
            return SEM_OK;
        }
        sem_status status = r->lines[0] == NULL ? open_group(r, err) : SEM_OK;
        if (status == SEM_OK)
            status = next_lines(r, lines, &there, err);
        if (status != SEM_OK)
            return status;
        if (!there) {
            close_group(r);
            r->place =
                (data_place){.epoch = r->place.epoch, .file = r->place.file + 1, .malformed = r->place.malformed};
            continue;
        }
        status = give_line(r, lines, sink, context, &given, err);
        if (status != SEM_OK || given) {
            *more = true;
            return status;
        }
    }
}

/* A data_sink. */
static sem_status keep(void *context, const example *e, sem_error *err)
{
    return example_list_add(context, e, err);
}

sem_status data_reader_all(const data_options *options, example_list *out, sem_error *err)
{
    data_reader *r;
    bool more = true;
    sem_status status = data_reader_open(&r, options, err);
    while (status == SEM_OK && more)
        status = data_reader_next(r, keep, out, &more, err);
    data_reader_close(r);
    return status;
}

data_place data_reader_tell(const data_reader *r)
{
    return r->place;
}

sem_status data_reader_seek(data_reader *r, const data_place *place, sem_error *err)
{
    if (place->file > r->groups)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "data set %s: cannot go on in its file %llu: it has %zu",
                        r->options->name, (unsigned long long)place->file + 1, r->groups);
    data_reader_begin(r, place->epoch);
    r->place = *place;
    return SEM_OK;
}
