import { AppError } from "@shaman/kernel";

const CODE = "said_already";

/** Ends a command that has said all there is to say with exit code 1. */
export const failedAfterOutput = (): AppError =>
  new AppError({ code: CODE, kind: "user", message: "The result is above" });

export const isFailedAfterOutput = (error: AppError): boolean => error.code === CODE;
