#include "finetune/curve.h"

#include "base/buffer.h"
#include "base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char COLUMNS[] = "step,examples,loss,scale,learning_rate,gradient_norm,seconds,evaluation";

enum { PLAIN_COLUMNS = 8 };

struct curve {
    char path[FILES_PATH_MAX];
    int fd;
    size_t figure_count;
    double seconds_before; /* of the processes whose rows were there already */
    buffer line;
};

/* --- a row as text */

static bool put_real(buffer *out, double value)
{
    return buffer_print(out, ",") && (!isfinite(value) || buffer_print(out, "%.9g", value));
}

static bool write_row(buffer *out, const curve_row *row, size_t figure_count)
{
    bool written = buffer_print(out, "%llu,%llu", (unsigned long long)row->step, (unsigned long long)row->examples) &&
                   put_real(out, row->loss) && put_real(out, row->scale > 0 ? row->scale : NAN) &&
                   put_real(out, row->learning_rate) && put_real(out, row->gradient_norm) &&
                   buffer_print(out, ",%.3f", row->seconds) && put_real(out, row->evaluated ? row->evaluation : NAN);
    for (size_t i = 0; i < figure_count && written; i++)
        written = put_real(out, row->evaluated ? row->figures[i] : NAN);
    return written && buffer_print(out, "\n");
}

/* The next field as a number; NaN where it is empty. False: it is neither. */
static bool read_field(char **at, double *value)
{
    char *end = *at;
    *value = **at == ',' || **at == '\0' ? NAN : strtod(*at, &end);
    if (*end != ',' && *end != '\0')
        return false;
    *at = *end == ',' ? end + 1 : end;
    return true;
}

/* line ends with its NUL. False: it is no row of figure_count figures. */
static bool read_row(char *line, size_t figure_count, curve_row *row)
{
    double fields[PLAIN_COLUMNS];
    char *at = line;
    for (size_t i = 0; i < PLAIN_COLUMNS; i++)
        if (!read_field(&at, &fields[i]))
            return false;
    *row = (curve_row){.loss = fields[2],
                       .scale = isnan(fields[3]) ? 0 : fields[3],
                       .learning_rate = fields[4],
                       .gradient_norm = fields[5],
                       .seconds = fields[6],
                       .evaluation = fields[7]};
    if (!(fields[0] >= 1 && fields[0] < 0x1p53) || !(fields[1] >= 0 && fields[1] < 0x1p53) || isnan(row->seconds))
        return false;
    row->step = (uint64_t)fields[0];
    row->examples = (uint64_t)fields[1];
    row->evaluated = !isnan(fields[7]);
    for (size_t i = 0; i < figure_count; i++) {
        if (!read_field(&at, &row->figures[i]))
            return false;
        row->evaluated = row->evaluated || !isnan(row->figures[i]);
    }
    return *at == '\0';
}

/* --- the file that is there already */

/* What of it stays. */
typedef struct kept {
    off_t bytes;
    double seconds;
} kept;

static sem_status fail_row(const char *path, size_t line, sem_error *err)
{
    return sem_fail(err, SEM_FAILED_PRECONDITION, "%s:%zu: no row of a training curve; remove the file to begin anew",
                    path, line);
}

/* Reads rows until one of first_step or later, or the end. A last line without its end is none. */
static sem_status read_rows(FILE *in, const char *path, const char *head, uint64_t first_step, kept *k,
                            curve_reader *each, void *context, sem_error *err)
{
    char *line = NULL;
    size_t room = 0, figure_count = 0, number = 1;
    sem_status status = SEM_OK;
    curve_row *row = malloc(sizeof *row);
    ssize_t length = row != NULL ? getline(&line, &room, in) : -1;
    const bool whole = length > 0 && line[length - 1] == '\n';
    if (row == NULL)
        status = sem_fail_memory(err, "a training curve");
    else if (whole && ((head != NULL && strcmp(line, head) != 0) || strncmp(line, COLUMNS, sizeof COLUMNS - 1) != 0))
        status = sem_fail(err, SEM_FAILED_PRECONDITION,
                          "%s: the columns are not those of this run; remove the file to begin anew", path);
    for (const char *comma = whole && status == SEM_OK ? line : ""; (comma = strchr(comma, ',')) != NULL; comma++)
        figure_count++;
    figure_count = figure_count + 1 > PLAIN_COLUMNS ? figure_count + 1 - PLAIN_COLUMNS : 0;
    if (status == SEM_OK && figure_count > CURVE_FIGURES_MAX)
        status = fail_row(path, 1, err);
    if (whole)
        k->bytes = length;
    while (status == SEM_OK && whole && (length = getline(&line, &room, in)) > 0 && line[length - 1] == '\n') {
        line[length - 1] = '\0';
        number++;
        if (!read_row(line, figure_count, row))
            status = fail_row(path, number, err);
        if (status != SEM_OK || row->step >= first_step)
            break;
        k->bytes += length;
        k->seconds = row->seconds;
        if (each != NULL)
            each(context, row);
    }
    if (status == SEM_OK && (ferror(in) != 0 || (length < 0 && feof(in) == 0))) /* the latter: memory is out */
        status = files_fail(err, "read", path);
    free(line);
    free(row);
    return status;
}

sem_status curve_read(const char *path, curve_reader *each, void *context, sem_error *err)
{
    FILE *in = fopen(path, "re");
    if (in == NULL)
        return files_fail(err, "open", path);
    kept k = {0};
    sem_status status = read_rows(in, path, NULL, UINT64_MAX, &k, each, context, err);
    fclose(in);
    return status;
}

/* Cuts the file to the rows before first_step. */
static sem_status cut(curve *c, const char *head, uint64_t first_step, sem_error *err)
{
    kept k = {0};
    sem_status status = SEM_OK;
    FILE *in = first_step > 1 ? fopen(c->path, "re") : NULL;
    if (first_step > 1 && in == NULL)
        return files_fail(err, "open", c->path);
    if (in != NULL) {
        status = read_rows(in, c->path, head, first_step, &k, NULL, NULL, err);
        fclose(in);
    }
    if (status != SEM_OK)
        return status;
    c->seconds_before = k.seconds;
    if (ftruncate(c->fd, k.bytes) != 0 || lseek(c->fd, 0, SEEK_END) < 0)
        return files_fail(err, "cut", c->path);
    return k.bytes == 0 ? files_write_all(c->fd, c->path, head, strlen(head), err) : SEM_OK;
}

/* --- writing */

static bool make_head(buffer *out, const char *const *names, size_t figure_count)
{
    bool made = buffer_append(out, COLUMNS, sizeof COLUMNS - 1);
    for (size_t i = 0; i < figure_count && made; i++)
        made = buffer_print(out, ",%s", names[i]);
    return made && buffer_append(out, "\n", 2); /* with its NUL */
}

sem_status curve_open(curve **out, const char *path, uint64_t first_step, const char *const *names, size_t figure_count,
                      sem_error *err)
{
    *out = NULL;
    if (figure_count > CURVE_FIGURES_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a training curve of %zu figures: at most %d are possible",
                        figure_count, CURVE_FIGURES_MAX);
    curve *c = calloc(1, sizeof *c);
    if (c == NULL)
        return sem_fail_memory(err, "a training curve");
    c->fd = -1;
    c->figure_count = figure_count;
    sem_status status = files_join(c->path, err, "%s", path);
    if (status == SEM_OK && !make_head(&c->line, names, figure_count))
        status = sem_fail_memory(err, "a training curve");
    if (status == SEM_OK && (c->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644)) < 0)
        status = files_fail(err, "open", path);
    if (status == SEM_OK)
        status = cut(c, (const char *)c->line.data, first_step, err);
    if (status != SEM_OK) {
        curve_close(c);
        return status;
    }
    *out = c;
    return SEM_OK;
}

sem_status curve_add(curve *c, const curve_row *row, sem_error *err)
{
    curve_row whole = *row;
    whole.seconds += c->seconds_before;
    c->line.size = 0;
    if (!write_row(&c->line, &whole, c->figure_count))
        return sem_fail_memory(err, "a row of the training curve");
    return files_write_all(c->fd, c->path, c->line.data, c->line.size, err);
}

sem_status curve_sync(curve *c, sem_error *err)
{
    return fdatasync(c->fd) == 0 ? SEM_OK : files_fail(err, "fdatasync", c->path);
}

void curve_close(curve *c)
{
    if (c == NULL)
        return;
    if (c->fd >= 0)
        close(c->fd);
    buffer_free(&c->line);
    free(c);
}
