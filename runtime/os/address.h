/* os/address.h - addresses as text. */
#ifndef WEFT_OS_ADDRESS_H
#define WEFT_OS_ADDRESS_H

#include <weft/net.h>

/* Turns an IPv6 address for any host into the IPv4 one with the same port. */
void weft__address_any4(weft_addr *a);

#endif
