// Uploads a folder of this computer into the store: the files that the service asks for, part after part.
"use strict";

(() => {
  const place = document.querySelector("[data-upload]");
  if (!place) return;
  const PART_BYTES = 16 * 2 ** 20;
  const [folder, button] = ["input", "button"].map((each) => place.querySelector(each));
  const [bar, said] = ["progress", "[role=status]"].map((each) => place.querySelector(each));
  const target = document.getElementById(place.dataset.into);
  place.hidden = false;

  async function send(method, path, body, headers = {}) {
    const answer = await fetch(place.dataset.upload + path, { method, body, headers, credentials: "same-origin" });
    if (answer.ok) return answer;
    const problem = await answer.json().catch(() => ({}));
    throw new Error((problem.errors || []).map((each) => each.detail).join("; ") || problem.detail || `status ${answer.status}`);
  }

  // A store's name made of the folder's; the ending keeps it apart from what others upload.
  function nameOf(top) {
    const word = top.toLowerCase().replace(/[^a-z0-9._-]+/g, "-").replace(/^[-._]+|[-._]+$/g, "").slice(0, 60) || "model";
    const ending = crypto.getRandomValues(new Uint8Array(4));
    return `${word}-${[...ending].map((each) => each.toString(16).padStart(2, "0")).join("")}`;
  }

  async function upload() {
    const inside = new Map([...folder.files].map((file) => [file.webkitRelativePath.split("/").slice(1).join("/"), file]));
    if (inside.size === 0) throw new Error("choose a folder first");
    const name = nameOf([...folder.files][0].webkitRelativePath.split("/")[0]);
    const names = new URLSearchParams({ names: [...inside.keys()].join("\n") });
    const chosen = (await (await send("POST", "", names)).json()).files;
    if (chosen.length === 0) throw new Error("the folder holds no checkpoint: neither config.json nor adapter_config.json");
    const bytes = chosen.reduce((sum, path) => sum + inside.get(path).size, 0);
    let sent = 0;
    bar.hidden = false;
    bar.max = Math.max(bytes, 1);
    for (const path of chosen) {
      const file = inside.get(path);
      const to = `/${name}/files/${path.split("/").map(encodeURIComponent).join("/")}`;
      said.textContent = `Sending ${path}`;
      if (file.size === 0) await send("PUT", to, file);
      for (let start = 0; start < file.size; start += PART_BYTES) {
        const end = Math.min(start + PART_BYTES, file.size);
        await send("PUT", to, file.slice(start, end), { "Content-Range": `bytes ${start}-${end - 1}/${file.size}` });
        bar.value = sent += end - start;
      }
    }
    said.textContent = "Checking";
    let answer = await send("POST", `/${name}/commit`);
    while (answer.status === 202) {
      await new Promise((done) => window.setTimeout(done, 1000 * Number(answer.headers.get("Retry-After") || 2)));
      answer = await send("POST", `/${name}/commit`);
    }
    const model = await answer.json();
    target.value = model.reference;
    const left = inside.size - chosen.length;
    said.textContent = `Uploaded as ${model.reference}: ${chosen.length} of ${inside.size} files`
      + (left ? "; no model is read from the others" : "");
  }

  button.addEventListener("click", async () => {
    button.disabled = true;
    place.classList.remove("failed");
    try { await upload(); } catch (error) {
      place.classList.add("failed");
      said.textContent = `Not uploaded: ${error.message}`;
    }
    bar.hidden = true;
    button.disabled = false;
  });
})();
