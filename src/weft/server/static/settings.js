// The panel of settings, and the choice of the model: of the conversation that is open.

import { listModels } from "./api.js";
import { say } from "./words.js";

const form = document.getElementById("settings-form");
const select = document.getElementById("model");

// `changed` is called after a setting was changed.
export class Settings {
  constructor(changed) {
    this.settings = {};
    this.models = [];
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", ({ target }) => {
      this.settings[target.name] = target.type === "number" ? number(target) : target.value;
      changed();
    });
    select.addEventListener("change", () => {
      this.settings.model = select.value;
      changed();
    });
  }

  // Shows the settings of a conversation; it changes that object.
  open(settings) {
    this.settings = settings;
    for (const field of form.elements) if (field.name) field.value = settings[field.name] ?? "";
    this.drawModels();
  }

  // Asks the server what it serves. Throws ApiError.
  async loadModels() {
    this.models = await listModels();
    this.drawModels();
  }

  drawModels() {
    select.replaceChildren(...this.models.map(option));
    const known = this.models.some(({ id }) => id === this.settings.model);
    if (!known) delete this.settings.model; // of another server, or gone: the first of this one
    select.value = this.settings.model ?? this.models[0]?.id ?? "";
    select.disabled = this.models.length < 2;
  }
}

function option({ id, parent }) {
  const made = document.createElement("option");
  made.value = id;
  made.textContent = parent ? `${id} (${say("adapterOf")} ${parent})` : id;
  return made;
}

// What a field says; undefined where it is empty or what cannot be.
function number(field) {
  return field.value === "" || !field.validity.valid ? undefined : field.valueAsNumber;
}
