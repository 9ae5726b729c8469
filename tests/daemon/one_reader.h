/* One server and one client that reads its answers. */
#ifndef SEM_TESTS_DAEMON_ONE_READER_H
#define SEM_TESTS_DAEMON_ONE_READER_H

#include "tests/daemon/rig.h"

static rig r;
static rig_reader reader;

static inline void start(void)
{
    rig_start(&r);
    rig_reader_init(&reader, rig_connect(&r));
}

static inline void stop(void)
{
    rig_reader_free(&reader);
    rig_stop(&r);
}

static inline void expect_answer(uint32_t msgid, const char *code)
{
    ck_assert_msg(rig_next(&reader), "the connection ended instead of answer %u", msgid);
    ck_assert_uint_eq(reader.msgid, msgid);
    ck_assert_str_eq(reader.code, code);
}

static inline void expect_end(void)
{
    ck_assert_msg(!rig_next(&reader), "answer %u %s %s instead of the end", reader.msgid, reader.code, reader.message);
}

static inline void listen_unix(void)
{
    snprintf(r.config.server.listen[0], CONFIG_ADDRESS_MAX, "unix:%s/s", testing_folder());
}

#endif
