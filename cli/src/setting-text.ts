/** A setting's value for people. */
export const settingText = (value: unknown): string =>
  value === undefined ? "none" : typeof value === "string" ? value : JSON.stringify(value);

/** That a setting is its default, and why, where something else is stored. */
export const defaultText = ({ unreadable }: { readonly unreadable: string | undefined }): string =>
  unreadable === undefined ? "default" : `default, because the stored ${unreadable} is not valid`;
