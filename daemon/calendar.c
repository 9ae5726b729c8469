#include "daemon/calendar.h"

#include <string.h>
#include <strings.h>
#include <time.h>

enum { DAYS_A_WEEK = 7, ALL_DAYS = (1 << DAYS_A_WEEK) - 1, NOON = 12 };

static const char *const day_names[DAYS_A_WEEK] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};

/* The day whose name stands at *text, which is moved behind it; below 0: none does. */
static int read_day(const char **text)
{
    for (int day = 0; day < DAYS_A_WEEK; day++)
        if (strncasecmp(*text, day_names[day], 3) == 0) {
            *text += 3;
            return day;
        }
    return -1;
}

static bool read_days(const char **text, unsigned *days)
{
    *days = 0;
    for (;;) {
        int day = read_day(text);
        if (day < 0)
            return false;
        *days |= 1U << day;
        if (**text != ',')
            break;
        (*text)++;
    }
    const size_t spaces = strspn(*text, " ");
    *text += spaces;
    return spaces > 0;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool calendar_parse(calendar *out, const char *text)
{
    unsigned days = ALL_DAYS;
    if (!is_digit(text[0]) && !read_days(&text, &days))
        return false;
    for (int i = 0; i < 5; i++)
        if (i == 2 ? text[i] != ':' : !is_digit(text[i]))
            return false;
    *out = (calendar){
        .days = days, .hour = (text[0] - '0') * 10 + text[1] - '0', .minute = (text[3] - '0') * 10 + text[4] - '0'};
    return text[5] == '\0' && out->hour < 24 && out->minute < 60;
}

/* A time so many days before the day of `from`, which mktime() brings into the calendar. */
static time_t time_before(const struct tm *from, int days, int hour, int minute, int *weekday)
{
    struct tm t = {.tm_year = from->tm_year,
                   .tm_mon = from->tm_mon,
                   .tm_mday = from->tm_mday - days,
                   .tm_hour = hour,
                   .tm_min = minute,
                   .tm_isdst = -1};
    time_t at = mktime(&t);
    *weekday = t.tm_wday;
    return at;
}

int64_t calendar_last(const calendar *c, int64_t now_s)
{
    const time_t now = (time_t)now_s;
    struct tm today;
    tzset();
    if (localtime_r(&now, &today) == NULL)
        return 0;
    for (int days = 0; days <= DAYS_A_WEEK; days++) {
        int weekday, ignored;
        (void)time_before(&today, days, NOON, 0, &weekday); /* no clock is changed at noon */
        const time_t at = time_before(&today, days, c->hour, c->minute, &ignored);
        if ((c->days >> weekday & 1) != 0 && at <= now)
            return (int64_t)at;
    }
    return 0;
}
