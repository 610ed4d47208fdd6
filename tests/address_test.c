/* address_test.c - addresses as text: os/address.c. */
#include "support.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/un.h>

#include "os/address.h"

static const struct {
    const char *text;
    const char *back; /* as it is written; NULL: the same */
    int family;
    int port;
} good[] = {
    { "127.0.0.1:80", NULL, AF_INET, 80 },
    { "0.0.0.0:0", NULL, AF_INET, 0 },
    { "255.255.255.255:65535", NULL, AF_INET, 65535 },
    { "1.2.3.4:00080", "1.2.3.4:80", AF_INET, 80 },
    { "[::1]:80", NULL, AF_INET6, 80 },
    { "[::]:0", NULL, AF_INET6, 0 },
    { ":7777", "[::]:7777", AF_INET6, 7777 },
    { "[2001:DB8::1]:443", "[2001:db8::1]:443", AF_INET6, 443 },
    { "[::ffff:1.2.3.4]:5", NULL, AF_INET6, 5 },
    { "[fe80::1%lo]:9", "[fe80::1%1]:9", AF_INET6, 9 },
    { "[fe80::1%4294967295]:9", NULL, AF_INET6, 9 }, /* there need not be such an interface */
    { "unix:/run/x", NULL, AF_UNIX, 0 },
    { "unix:relative", NULL, AF_UNIX, 0 },
    { "unix:/with:colons:80", NULL, AF_UNIX, 0 },
    { "unix:@abstract", NULL, AF_UNIX, 0 },
    { "unix:@a", NULL, AF_UNIX, 0 },
};

static int port_in(const weft_addr *a)
{
    if (a->sa.ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)(const void *)&a->sa)->sin_port);
    if (a->sa.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)(const void *)&a->sa)->sin6_port);
    return 0;
}

START_TEST(what_is_read_is_written_the_same)
{
    weft_addr a, b;
    char text[128];
    const char *back = good[_i].back ? good[_i].back : good[_i].text;
    memset(&a, 0xff, sizeof a);
    ck_assert_int_eq(weft_addr_parse(&a, good[_i].text), 0);
    ck_assert_int_eq(a.sa.ss_family, good[_i].family);
    ck_assert_int_eq(port_in(&a), good[_i].port);
    ck_assert_int_eq(weft_addr_text(&a, text, sizeof text), (int)strlen(back));
    ck_assert_str_eq(text, back);
    ck_assert_int_eq(weft_addr_parse(&b, text), 0);
    ck_assert_uint_eq(b.len, a.len);
    ck_assert_int_eq(memcmp(&a.sa, &b.sa, a.len), 0);
}
END_TEST

static const char *const bad[] = { "", ":", "80", "localhost:80", "1.2.3:80", "1.2.3.4", "1.2.3.4:",
    "1.2.3.4:65536", "1.2.3.4:-1", "1.2.3.4:+1", "1.2.3.4: 80", "1.2.3.4:80 ", " 1.2.3.4:80", "1.2.3.4:8x",
    "1.2.3.4:99999999999999999999", "1.2.3.256:80", "::1:80", "[::1]", "[::1]80", "[::1:80", "::1]:80", "[]:80",
    "[1.2.3.4]:80", "[::1%]:80", "[::1%nosuchdevice]:80", "[::1%0]:80", "[::1%4294967296]:80", "[::1%1x]:80",
    "[:::]:80", "[12345::]:80", "unix:", "unix:@", "unix", "[",
    "]:80", "[:80", "[]:", ":x", ":65536", "::" };

START_TEST(what_is_no_address_is_refused_and_nothing_written)
{
    weft_addr a, before;
    memset(&a, 0x5a, sizeof a);
    before = a;
    ck_assert_msg(weft_addr_parse(&a, bad[_i]) == -EINVAL, "\"%s\" is taken", bad[_i]);
    ck_assert_int_eq(memcmp(&a, &before, sizeof a), 0);
}
END_TEST

START_TEST(nothing_is_no_address)
{
    weft_addr a;
    char text[8];
    ck_assert_int_eq(weft_addr_parse(NULL, "1.2.3.4:5"), -EINVAL);
    ck_assert_int_eq(weft_addr_parse(&a, NULL), -EINVAL);
    ck_assert_int_eq(weft_addr_parse(&a, "1.2.3.4:5"), 0);
    ck_assert_int_eq(weft_addr_text(NULL, text, sizeof text), -EINVAL);
    ck_assert_int_eq(weft_addr_text(&a, NULL, 8), -EINVAL);
    ck_assert_int_eq(weft_addr_text(&a, text, 0), -EINVAL);
    a.sa.ss_family = AF_UNSPEC;
    ck_assert_int_eq(weft_addr_text(&a, text, sizeof text), -EINVAL);
}
END_TEST

START_TEST(a_text_that_does_not_fit_is_cut_and_terminated)
{
    for (int i = 0; i < COUNT(good); i++) {
        weft_addr a;
        char whole[128], text[128];
        ck_assert_int_eq(weft_addr_parse(&a, good[i].text), 0);
        int n = weft_addr_text(&a, whole, sizeof whole);
        for (int room = 1; room <= n + 1; room++) {
            memset(text, '#', sizeof text);
            ck_assert_int_eq(weft_addr_text(&a, text, (size_t)room), room > n ? n : -ENOSPC);
            ck_assert_int_eq((int)strlen(text), room > n ? n : room - 1);
            ck_assert_int_eq(strncmp(text, whole, (size_t)room - 1), 0);
            ck_assert_int_eq(text[room], '#');
        }
    }
}
END_TEST

START_TEST(a_path_is_as_long_as_the_kernel_takes_and_no_longer)
{
    enum { MOST = sizeof(((struct sockaddr_un *)0)->sun_path) };
    for (int abstract = 0; abstract < 2; abstract++)
        for (int n = MOST - 3; n < MOST + 200; n++) {
            char text[400] = "unix:", back[400];
            memset(text + 5, abstract ? 'a' : '/', (size_t)n);
            text[5] = abstract ? '@' : '/';
            text[5 + n] = 0;
            weft_addr a;
            int rc = weft_addr_parse(&a, text);
            if (n < MOST) {
                ck_assert_int_eq(rc, 0);
                ck_assert_uint_le(a.len, sizeof(struct sockaddr_un));
                ck_assert_int_eq(weft_addr_text(&a, back, sizeof back), n + 5);
                ck_assert_str_eq(back, text);
            } else {
                ck_assert_int_eq(rc, n == MOST && rc == 0 ? 0 : -EINVAL);
            }
        }
}
END_TEST

START_TEST(an_abstract_name_starts_with_a_zero_and_has_no_end)
{
    weft_addr a;
    ck_assert_int_eq(weft_addr_parse(&a, "unix:@name"), 0);
    const struct sockaddr_un *u = (const struct sockaddr_un *)(const void *)&a.sa;
    ck_assert_int_eq(u->sun_path[0], 0);
    ck_assert_int_eq(memcmp(u->sun_path + 1, "name", 4), 0);
    ck_assert_uint_eq(a.len, offsetof(struct sockaddr_un, sun_path) + 5);
    ck_assert_int_eq(weft_addr_parse(&a, "unix:/name"), 0);
    ck_assert_uint_eq(a.len, offsetof(struct sockaddr_un, sun_path) + 6);
}
END_TEST

START_TEST(a_socket_without_a_name_has_a_text)
{
    weft_addr a;
    char text[16];
    memset(&a, 0, sizeof a);
    a.sa.ss_family = AF_UNIX;
    a.len = offsetof(struct sockaddr_un, sun_path);
    ck_assert_int_eq(weft_addr_text(&a, text, sizeof text), 5);
    ck_assert_str_eq(text, "unix:");
}
END_TEST

START_TEST(a_host_that_is_far_too_long_is_refused)
{
    char text[5000];
    weft_addr a;
    for (size_t n = 100; n < sizeof text; n += 97) {
        memset(text, '1', n);
        memcpy(text + n - 4, ":80", 4);
        ck_assert_int_eq(weft_addr_parse(&a, text), -EINVAL);
        text[0] = '[';
        text[n - 5] = ']';
        ck_assert_int_eq(weft_addr_parse(&a, text), -EINVAL);
    }
}
END_TEST

START_TEST(any_of_both_families_becomes_any_of_one)
{
    weft_addr a, b;
    ck_assert_int_eq(weft_addr_parse(&a, ":7777"), 0);
    weft__address_any4(&a);
    ck_assert_int_eq(weft_addr_parse(&b, "0.0.0.0:7777"), 0);
    ck_assert_uint_eq(a.len, b.len);
    ck_assert_int_eq(memcmp(&a.sa, &b.sa, a.len), 0);
}
END_TEST

START_TEST(more_room_than_an_int_counts_is_room)
{
    static const size_t bytes[] = { (size_t)INT32_MAX, (size_t)INT32_MAX + 1, (size_t)UINT32_MAX + 2, SIZE_MAX };
    weft_addr a;
    char text[128];
    ck_assert_int_eq(weft_addr_parse(&a, good[_i].text), 0);
    int n = weft_addr_text(&a, text, sizeof text);
    for (int i = 0; i < COUNT(bytes); i++)
        ck_assert_int_eq(weft_addr_text(&a, text, bytes[i]), n);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("address");
    TCase *tc = add_case(s, "text");
    tcase_add_loop_test(tc, what_is_read_is_written_the_same, 0, COUNT(good));
    tcase_add_loop_test(tc, what_is_no_address_is_refused_and_nothing_written, 0, COUNT(bad));
    tcase_add_test(tc, nothing_is_no_address);
    tcase_add_test(tc, a_text_that_does_not_fit_is_cut_and_terminated);
    tcase_add_test(tc, a_path_is_as_long_as_the_kernel_takes_and_no_longer);
    tcase_add_test(tc, an_abstract_name_starts_with_a_zero_and_has_no_end);
    tcase_add_test(tc, a_socket_without_a_name_has_a_text);
    tcase_add_test(tc, a_host_that_is_far_too_long_is_refused);
    tcase_add_test(tc, any_of_both_families_becomes_any_of_one);
    tcase_add_loop_test(tc, more_room_than_an_int_counts_is_room, 0, COUNT(good));
    return run_suite(s);
}
