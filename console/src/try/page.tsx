// Try it: one prompt against two references, side by side.

import { useEffect, useRef, useState } from "preact/hooks";
import { remember } from "../lib/address.ts";
import { get } from "../lib/api.ts";
import type { Asked, Kind } from "../lib/completion.ts";
import { Field } from "../lib/form.tsx";
import { useAnswer } from "../lib/hooks.ts";
import { announce } from "../lib/notices.tsx";
import type { PageProps } from "../lib/page.ts";
import { answer, NO_ANSWER, Side, type Answer } from "./side.tsx";

const LETTERS = ["A", "B"] as const;

export function TryPage({ query, signal }: PageProps) {
  const [models] = useAnswer("The list of models", readModels);
  const [answers, setAnswers] = useState<readonly Answer[]>([NO_ANSWER, NO_ANSWER]);
  const [running, setRunning] = useState<AbortController | null>(null);
  const latest = useRef<AbortController | null>(null);
  useEffect(() => () => latest.current?.abort(), []);
  const send = async (event: SubmitEvent) => {
    event.preventDefault();
    if (running) return;
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const text = (name: string) => String(form.get(name) ?? "");
    remember("/try", Object.fromEntries([...form.keys()].map((name) => [name, text(name)])));
    const mine = (latest.current = new AbortController());
    setRunning(mine);
    const results = await Promise.all(
      ["a", "b"].map((name, n) => {
        const show = (one: Answer) => setAnswers((all) => all.map((other, m) => (m === n ? one : other)));
        const asked: Asked = {
          kind: text("kind") as Kind,
          model: text(name).trim(),
          prompt: text("prompt"),
          maxTokens: Number(text("max_tokens")),
          temperature: Number(text("temperature")),
        };
        return answer(asked, AbortSignal.any([mine.signal, signal]), show);
      }),
    );
    setRunning(null);
    announce(results.map((result, n) => result && `${LETTERS[n]} ${result}`).filter(Boolean).join(" "));
  };
  return (
    <>
      <div class="page-head">
        <h1>Try it</h1>
      </div>
      <PromptForm query={query} isRunning={running !== null} onSubmit={send} stop={() => running?.abort()} />
      <div class="sides">
        {LETTERS.map((letter, n) => (
          <Side key={letter} letter={letter} answer={answers[n]!} />
        ))}
      </div>
      <datalist id="models">
        {models?.map((id) => (
          <option key={id} value={id} />
        ))}
      </datalist>
    </>
  );
}

async function readModels(signal: AbortSignal): Promise<string[]> {
  const { data } = await get<{ data: { id: string }[] }>("v1/models", signal);
  return data.map(({ id }) => id);
}

interface FormProps {
  query: URLSearchParams;
  isRunning: boolean;
  onSubmit: (event: SubmitEvent) => void;
  stop: () => void;
}

function PromptForm({ query, isRunning, onSubmit, stop }: FormProps) {
  const value = (name: string, otherwise: string) => query.get(name) ?? otherwise;
  const onKeyDown = (event: KeyboardEvent) => {
    const { form } = event.currentTarget as HTMLTextAreaElement;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form!.requestSubmit();
  };
  return (
    <form class="prompt" onSubmit={onSubmit}>
      <div class="wide">
        <Field label="Prompt">
          <textarea name="prompt" rows={3} required spellcheck={false} defaultValue={value("prompt", "")} onKeyDown={onKeyDown} />
        </Field>
      </div>
      <Field label="Reference A">
        <input name="a" list="models" class="ref" autoComplete="off" spellcheck={false} required defaultValue={value("a", "")} />
      </Field>
      <Field label="Reference B" hint="Empty: only A.">
        <input name="b" list="models" class="ref" autoComplete="off" spellcheck={false} defaultValue={value("b", "")} />
      </Field>
      <Field label="Route">
        <select name="kind" defaultValue={value("kind", "completions")}>
          <option>completions</option>
          <option>chat</option>
        </select>
      </Field>
      <Field label="Max tokens">
        <input name="max_tokens" type="number" class="narrow" min={1} defaultValue={value("max_tokens", "64")} />
      </Field>
      <Field label="Temperature">
        <input name="temperature" type="number" class="narrow" min={0} step="any" defaultValue={value("temperature", "0")} />
      </Field>
      <div class="row prompt-buttons">
        <button class="primary" title="Ctrl+Enter" disabled={isRunning}>
          Send
        </button>
        <button type="button" disabled={!isRunning} onClick={stop}>
          Stop
        </button>
      </div>
    </form>
  );
}
