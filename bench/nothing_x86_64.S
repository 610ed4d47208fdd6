/* nothing_x86_64.S - a program that ends at once, with status 0: the child of process_spawn.
 *
 * It has no libc and no loader, so that what is measured is the parent's share, and the kernel's. */
        .text
        .globl  _start
        .type   _start, @function
_start:
        movl    $231, %eax /* exit_group */
        xorl    %edi, %edi
        syscall
        .size   _start, . - _start

        .section .note.GNU-stack, "", @progbits
