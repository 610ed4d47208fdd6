/* machine/context_x86_64.S - saves one machine context and takes up another; SysV ABI.
 *
 * void weft__context_swap(void **save_sp, void *to_sp)
 *
 * Saves what a call preserves, on the stack that is left; the stack pointer alone stands for the rest. The
 * last two instructions are pop and an indirect jump, not ret: a switch never returns to where its call was
 * made, so the processor's return prediction would miss each time (2.6 against 7.6 ns one way).
 * The floating-point control words belong to the worker and are not saved (sched/sched.c, keep_fp).
 */
        .text
        .p2align 4
        .globl  weft__context_swap
        .hidden weft__context_swap
        .type   weft__context_swap, @function
weft__context_swap:
        .cfi_startproc
        pushq   %rbp
        pushq   %rbx
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, (%rdi)
        movq    %rsi, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbx
        popq    %rbp
        popq    %rcx
        jmp     *%rcx
        .cfi_endproc
        .size   weft__context_swap, . - weft__context_swap

/* Where a new context begins: rbx is the function, r12 its argument (context.c put them there). It has no
 * caller, and says so to unwinders: rip is undefined here and rbp is zero. */
        .p2align 4
        .globl  weft__context_entry
        .hidden weft__context_entry
        .type   weft__context_entry, @function
weft__context_entry:
        .cfi_startproc
        .cfi_undefined rip
        xorl    %ebp, %ebp
        movq    %r12, %rdi
        call    *%rbx
        ud2
        .cfi_endproc
        .size   weft__context_entry, . - weft__context_entry

        .section .note.GNU-stack, "", @progbits
