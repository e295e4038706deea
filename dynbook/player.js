// Sets the frames of every figure named KEY going that does not go yet. It finds its figures by
// name, because notebooks run a script away from where it stands.
for (const figure of document.querySelectorAll('figure[data-key="KEY"]:not([data-ready])')) {
  figure.dataset.ready = "";
  const { base, frames, texts } = JSON.parse(figure.querySelector("script").textContent);
  const lines = base.split("\n");
  const stage = figure.querySelector(".explore-stage");
  const sliders = [...figure.querySelectorAll("input")];
  const outputs = [...figure.querySelectorAll("output")];
  const button = figure.querySelector("button");

  const show = () => {
    let index = 0;
    sliders.forEach((slider, i) => {
      const value = Number(slider.value);
      const text = texts[i][value];
      index = index * texts[i].length + value;
      outputs[i].textContent = text;
      slider.setAttribute("aria-valuetext", text);
    });
    // A frame is its own lines and, as [from, to], those that it shares with the base.
    stage.innerHTML = frames[index]
      .map((part) => (typeof part === "string" ? part : lines.slice(...part).join("\n")))
      .join("\n");
  };
  for (const slider of sliders) {
    slider.hidden = false;
    slider.addEventListener("input", show);
  }

  if (button && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
    const [slider] = sliders;
    let timer = null;
    const pause = () => {
      clearInterval(timer);
      timer = null;
      button.textContent = "Play";
    };
    const step = () => {
      if (!figure.isConnected) return pause();
      slider.value = (Number(slider.value) + 1) % texts[0].length;
      show();
      if (slider.value === slider.max) pause();
    };
    button.hidden = false;
    button.addEventListener("click", () => {
      if (timer) return pause();
      button.textContent = "Pause";
      timer = setInterval(step, Number(button.dataset.interval));
    });
    slider.addEventListener("pointerdown", pause);
    slider.addEventListener("keydown", pause);
  }
}
