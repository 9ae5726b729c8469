#include "tools/semctl_batches.h"

#include "tools/semctl_lines.h"

sem_status batches_send(const batches *b, const buffer *packed, size_t count, sem_error *err)
{
    params m;
    client_reply reply;
    params_begin(&m);
    sem_status status = params_options(b->ctl, &m, b->command, b->arguments, err);
    packer *p = params_key(&m, b->key);
    pack_array(p, count);
    pack_raw(p, packed->data, packed->size);
    if (status != SEM_OK) {
        params_free(&m);
        return status;
    }
    status = ctl_call(b->ctl, b->command->method, &m, &reply, err);
    if (status != SEM_OK)
        return status;
    status = b->take(b->context, &reply, err);
    client_reply_free(&reply);
    return status;
}

static sem_status send_content(const batches *b, const char *path, const buffer *content, size_t most,
                               batches_convert *convert, sem_error *err)
{
    buffer packed = {0};
    packer p;
    size_t length, count = 0, number = 0;
    bool due = b->empty_too;
    sem_status status = SEM_OK;
    pack_init(&p, &packed);
    const char *at = (const char *)content->data, *end = at + content->size, *line;
    while (status == SEM_OK && lines_next(&at, end, &line, &length)) {
        number++;
        if (length > 0 && convert(&p, line, length, err) != SEM_OK)
            status = sem_error_prefix(err, "%s:%zu", path, number);
        else if (p.failed)
            status = sem_fail_memory(err, path);
        count += length > 0;
        if (status == SEM_OK && count == most) {
            status = batches_send(b, &packed, count, err);
            packed.size = 0;
            count = 0;
            due = false;
        }
    }
    if (status == SEM_OK && (count > 0 || due))
        status = batches_send(b, &packed, count, err);
    buffer_free(&packed);
    return status;
}

sem_status batches_send_lines(const batches *b, const char *path, size_t most, batches_convert *convert, sem_error *err)
{
    buffer content = {0};
    sem_status status = lines_read(path, &content, err);
    if (status == SEM_OK)
        status = send_content(b, path, &content, most, convert, err);
    buffer_free(&content);
    return status;
}
