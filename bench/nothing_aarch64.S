/* nothing_aarch64.S - a program that ends at once, with status 0: the child of process_spawn.
 *
 * It has no libc and no loader, so that what is measured is the parent's share, and the kernel's. */
        .text
        .globl  _start
        .type   _start, %function
_start:
        mov     x8, #94 /* exit_group */
        mov     x0, #0
        svc     #0
        .size   _start, . - _start

        .section .note.GNU-stack, "", %progbits
