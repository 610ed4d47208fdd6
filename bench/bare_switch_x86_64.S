/* bare_switch_x86_64.S - the least that a switch between two stacks can do: the yardstick of micro_switch.
 *
 * void bare_switch(void **save_sp, void *to_sp)
 *
 * Saves the callee-saved registers on the current stack and the stack pointer in *save_sp, continues the one
 * that was left with to_sp. The way back is pop and jmp: a ret would be predicted to return to our own
 * caller, which is wrong at every switch between two call sites. Floating-point control is not saved.
 *
 * A new stack holds, from to_sp up: six registers, the function to enter, a word of padding. */
        .text
        .globl  bare_switch
        .type   bare_switch, @function
        .p2align 4
bare_switch:
        .cfi_startproc
        pushq   %rbp
        .cfi_adjust_cfa_offset 8
        pushq   %rbx
        .cfi_adjust_cfa_offset 8
        pushq   %r12
        .cfi_adjust_cfa_offset 8
        pushq   %r13
        .cfi_adjust_cfa_offset 8
        pushq   %r14
        .cfi_adjust_cfa_offset 8
        pushq   %r15
        .cfi_adjust_cfa_offset 8
        movq    %rsp, (%rdi)
        movq    %rsi, %rsp
        popq    %r15
        .cfi_adjust_cfa_offset -8
        popq    %r14
        .cfi_adjust_cfa_offset -8
        popq    %r13
        .cfi_adjust_cfa_offset -8
        popq    %r12
        .cfi_adjust_cfa_offset -8
        popq    %rbx
        .cfi_adjust_cfa_offset -8
        popq    %rbp
        .cfi_adjust_cfa_offset -8
        popq    %rcx
        .cfi_adjust_cfa_offset -8
        .cfi_register %rip, %rcx
        jmpq    *%rcx
        .cfi_endproc
        .size   bare_switch, . - bare_switch

        .section .note.GNU-stack, "", @progbits
