/* bare_switch_aarch64.S - the least that a switch between two stacks can do: the yardstick of micro_switch.
 *
 * void bare_switch(void **save_sp, void *to_sp)
 *
 * Saves the callee-saved registers (x19 to x30, d8 to d15) on the current stack and the stack pointer in
 * *save_sp, continues the one that was left with to_sp. The way back is br through x16 rather than ret: that
 * would be predicted to return to our own caller, which is wrong at every switch between two call sites.
 *
 * A new stack holds, from to_sp up: x19 to x29, the function to enter, d8 to d15. */
        .text
        .globl  bare_switch
        .type   bare_switch, %function
        .p2align 4
bare_switch:
        .cfi_startproc
        sub     sp, sp, #160
        .cfi_adjust_cfa_offset 160
        stp     x19, x20, [sp, #0]
        stp     x21, x22, [sp, #16]
        stp     x23, x24, [sp, #32]
        stp     x25, x26, [sp, #48]
        stp     x27, x28, [sp, #64]
        stp     x29, x30, [sp, #80]
        stp     d8, d9, [sp, #96]
        stp     d10, d11, [sp, #112]
        stp     d12, d13, [sp, #128]
        stp     d14, d15, [sp, #144]
        mov     x9, sp
        str     x9, [x0]
        mov     sp, x1
        ldp     x19, x20, [sp, #0]
        ldp     x21, x22, [sp, #16]
        ldp     x23, x24, [sp, #32]
        ldp     x25, x26, [sp, #48]
        ldp     x27, x28, [sp, #64]
        ldp     x29, x30, [sp, #80]
        ldp     d8, d9, [sp, #96]
        ldp     d10, d11, [sp, #112]
        ldp     d12, d13, [sp, #128]
        ldp     d14, d15, [sp, #144]
        add     sp, sp, #160
        .cfi_adjust_cfa_offset -160
        mov     x16, x30
        br      x16
        .cfi_endproc
        .size   bare_switch, . - bare_switch

        .section .note.GNU-stack, "", %progbits
