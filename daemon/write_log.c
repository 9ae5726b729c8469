#include "daemon/write_log.h"

#include "daemon/lexical_thread.h"
#include "daemon/writer.h"

typedef struct trimming {
    core *core;
    uint64_t upto;
} trimming;

static sem_status trim_log(void *context, store_write *w, sem_error *err)
{
    const trimming *t = context;
    const uint64_t last = store_last_seq(store_write_view(w)), applied = lexical_thread_durable(t->core->lexical);
    const uint64_t upto = t->upto < last ? t->upto : last;
    return store_log_trim(w, applied < upto ? applied : upto, err);
}

sem_status write_log_trim(core *c, uint64_t upto, sem_error *err)
{
    trimming t = {c, upto};
    const write_call call = {.apply = trim_log, .context = &t};
    return writer_run(c->writer, &call, err);
}
