/* base/fence.c - the heavy half of an asymmetric fence. See fence.h. */
#include "base/fence.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

bool weft__fence_is_free;

static long membarrier(int command)
{
    return syscall(SYS_membarrier, command, 0, 0);
}

void weft__fences_init(void)
{
    long offered = membarrier(MEMBARRIER_CMD_QUERY);
    weft__fence_is_free = offered > 0 && (offered & MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0 &&
            membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;
}

bool weft__fence_heavy(void)
{
    if (weft__fence_is_free)
        return membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0;
    at_fence_full();
    return true;
}
