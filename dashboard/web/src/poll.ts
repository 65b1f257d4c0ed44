/** Asks for something again and again while a page shows it. */

import { onMounted, onUnmounted, ref, shallowRef, type Ref, type ShallowRef } from "vue";

import { ApiError, messageOf } from "./http";

export interface Polled<T> {
  data: ShallowRef<T | null>;
  /** Why the last try failed; empty when it did not. */
  error: Ref<string>;
  reload: () => Promise<void>;
}

/** @param every in milliseconds; a hidden page does not ask. */
export function usePoll<T>(ask: () => Promise<T>, every: number): Polled<T> {
  const data = shallowRef<T | null>(null);
  const error = ref("");
  let timer: ReturnType<typeof setInterval> | undefined;
  let latest = 0;

  async function reload(): Promise<void> {
    const turn = ++latest;
    try {
      const answer = await ask();
      // An older question may be answered last.
      if (turn !== latest) return;
      data.value = answer;
      error.value = "";
    } catch (problem) {
      if (problem instanceof ApiError && problem.unauthorised) return;
      if (turn === latest) error.value = messageOf(problem);
    }
  }

  const wake = () => {
    if (document.visibilityState === "visible") void reload();
  };
  onMounted(() => {
    void reload();
    timer = setInterval(wake, every);
    document.addEventListener("visibilitychange", wake);
  });
  onUnmounted(() => {
    clearInterval(timer);
    document.removeEventListener("visibilitychange", wake);
  });
  return { data, error, reload };
}
