#include "daemon/notices.h"

#include "daemon/json_pack.h"

/* Takes the bytes. */
static void send(core *c, unsigned topic, buffer *bytes, bool failed)
{
    if (failed) {
        buffer_free(bytes);
        log_event(c->log, LOG_LEVEL_ERROR, "notification_lost", "reason=\"out of memory\"");
        return;
    }
    c->hooks.notify(c->hooks.context, topic, bytes);
}

void notices_generation(core *c, uint32_t generation, const char *reason)
{
    buffer bytes = {.memory = c->hooks.memory};
    packer p;
    if (c->hooks.notify == NULL)
        return;
    pack_init(&p, &bytes);
    notification_begin(&p, "generation");
    pack_array(&p, 1);
    pack_map(&p, 2);
    pack_str(&p, "generation");
    pack_uint(&p, generation);
    pack_str(&p, "reason");
    pack_str(&p, reason);
    send(c, TOPIC_GENERATION, &bytes, p.failed);
}

void notices_job(core *c, job_status *status)
{
    buffer bytes = {.memory = c->hooks.memory};
    packer p;
    if (c->hooks.notify == NULL)
        return;
    json_t *value = job_status_json(status);
    pack_init(&p, &bytes);
    notification_begin(&p, "job");
    pack_array(&p, 1);
    if (value != NULL)
        json_pack_value(&p, value);
    send(c, TOPIC_JOB, &bytes, p.failed || value == NULL);
    json_decref(value);
}

void notices_pack_topics(packer *p, unsigned topics)
{
    static const char *const names[] = {"generation", "job"}; /* TOPIC_ bits, in this order */
    size_t count = 0;
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        count += topics >> i & 1;
    pack_array(p, count);
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if ((topics >> i & 1) != 0)
            pack_str(p, names[i]);
}
