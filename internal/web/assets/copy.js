// Copying: fields with data-copy get a button that copies them. Without
// scripts they can be marked and copied as any text.

for (const field of document.querySelectorAll("[data-copy]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(field.value ?? field.textContent);
      button.textContent = "Copied";
    } catch {
      field.focus();
      field.select?.();
      button.textContent = "Press Ctrl+C";
    }
  });
  field.after(button);
}
